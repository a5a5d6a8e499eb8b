"""`SessionAuth` for httpx. It is `idiolectd.SessionAuth`."""

from typing import Any, ClassVar

import httpx

from idiolectd.adapters.httpx_flow import HttpxFlow


class SessionAuth(HttpxFlow, httpx.Auth):
    """Authorizes requests to an account's PDS with the tokens that are stored at the time.

    ::

        async with httpx.AsyncClient(auth=SessionAuth("sqlite:///srv/sessions.sqlite", did)) as http:
            await http.post(f"{pds}/xrpc/com.atproto.repo.createRecord", json=...)

    For `httpx.AsyncClient` (asyncio and trio) and `httpx.Client`; one object serves any number of
    tasks and threads. The record is read for every request, so new tokens are used at once. DPoP
    sessions get a fresh proof (RFC 9449), legacy ones a Bearer token. If the PDS refuses the token,
    the request waits until the record holds another and is repeated.

    A body given as bytes, JSON or form can be repeated, and so can one of known length up to 8 MiB,
    which is read into memory. Before any other body is sent, a cheap request tests whether the PDS accepts
    the token.

    With ``follow_redirects=True`` httpx drops ``Authorization`` on a redirect to another host, but not
    ``DPoP``: that proof is bound to the first URL and to the token, and is useless without the token.

    Args:
        store: an open store, a store URL or a path, or None: the configured store. An open store is
            read in the event loop in which it is open; sync clients read the same place themselves.
        account: a DID, or the confirmed handle of a stored session (a login and the daemon confirm it). A
            handle is looked up once, by reading every record of the store, and its DID is kept.
        patience: how many seconds one request waits for a newer token, in all. A rotation takes
            milliseconds; the rest allows for a restart of the daemon.
        refresh: whether to refresh the session here, under the claim, if its token is refused or about to
            expire: for programs that may write the store and are configured as the daemon is. Async
            clients only.
        also: origins (``https://HOST``) besides the session's PDS that may get the token.
        servers: the known nonces and clock differences; None: those that this process shares.

    Raises:
        ConfigError: the store, its configuration or `also` is wrong.
        DidError: the account begins like a DID but is not one.

    Requests raise, besides httpx's own errors:
        NoSessionError: nothing is stored for the account: log in first.
        TokenRefused: the PDS accepts no stored token; the message says whether a daemon runs and what to do.
        TokenWithheld: the URL is not the session's PDS, or not https; nothing was sent.
        BodyUsedUp: refused, and the body can't be sent again.
        RecordError, StoreError: the record, or the store, can't be read.
        HandleError: the handle is confirmed for no session, or for several.
        SessionError: the record can't be used.
        RefreshError: ``refresh=True`` did not bring a usable session, or the client is not async.
    """

    library: ClassVar[Any] = httpx
