"""`SessionAuth`: authorizes the requests of an httpx client, async or sync, with a stored session.

It carries out what `idiolectd.auth.auth_flow` decides. It writes no record and takes no lock, unless
``refresh=True`` lets it refresh the session.
"""

import threading
import time
from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import closing, suppress
from typing import Any

import anyio
import httpx

from idiolectd.auth.auth_flow import (
    AuthFlow,
    AuthOptions,
    Explain,
    Load,
    Pause,
    ReadBeginning,
    ReadBody,
    Renew,
    Send,
    Work,
)
from idiolectd.auth.bodies import alet_go, aread_beginning, let_go, read_beginning
from idiolectd.auth.destination import parse_origins
from idiolectd.auth.refusal_explanation import explain_refusal
from idiolectd.auth.servers import Servers
from idiolectd.auth.session_source import SessionSource, Store
from idiolectd.clock import SystemClock
from idiolectd.errors import ConfigError, IdiolectError, RefreshError, TokenRefused

_SERVERS = Servers()

_SYNC_REFRESH = (
    "SessionAuth(refresh=True) needs httpx.AsyncClient: a refresh is finished in an event loop, whatever"
    " happens to the request; leave refreshing to idiolectd, or use an async client"
)


class SessionAuth(httpx.Auth):
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

    def __init__(
        self,
        store: Store,
        account: str,
        *,
        patience: float = 10.0,
        refresh: bool = False,
        also: Collection[str] = (),
        servers: Servers | None = None,
    ) -> None:
        self._source = SessionSource(store, account)
        self._options = AuthOptions(also=parse_origins(also), patience=patience, refresh=refresh)
        self._servers = _SERVERS if servers is None else servers
        self._clock = SystemClock()
        self._renewing = threading.Lock()
        if refresh and not self._source.is_shared:
            raise ConfigError(
                f"refresh=True needs a store that can be claimed; {self._source.place} can't be"
            )

    def __repr__(self) -> str:
        return f"<SessionAuth {self._source.account} in {self._source.place}>"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`; for `httpx.Client`."""
        if self._options.refresh:
            raise RefreshError(_SYNC_REFRESH)
        steps = self._exchange(request).steps()
        with closing(steps), suppress(StopIteration):
            step, answer = next(steps), None
            while True:
                if isinstance(step, Send):
                    if answer is not None:
                        let_go(answer)
                    answer = yield step.request
                    step = steps.send(answer)
                    continue
                try:
                    brought = self._do(step)
                except IdiolectError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See `httpx.Auth`; for `httpx.AsyncClient`."""
        steps = self._exchange(request).steps()
        with closing(steps), suppress(StopIteration):
            step, answer = next(steps), None
            while True:
                if isinstance(step, Send):
                    if answer is not None:
                        await alet_go(answer)
                    answer = yield step.request
                    step = steps.send(answer)
                    continue
                try:
                    brought = await self._ado(step)
                except IdiolectError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)

    # -----------------------------------------------------------------------------------------

    def _exchange(self, request: httpx.Request) -> AuthFlow:
        return AuthFlow(request, self._options, self._servers, self._clock)

    def _do(self, step: Work) -> Any:
        match step:
            case Load():
                return self._source.load()
            case ReadBody(request):
                # httpx itself reports a stream of the wrong kind, when it is sent.
                return request.read() if isinstance(request.stream, httpx.SyncByteStream) else None
            case ReadBeginning(answer):
                return read_beginning(answer)
            case Pause(seconds):
                return time.sleep(seconds)
            case Renew():
                raise RefreshError(_SYNC_REFRESH)
            case Explain():
                return self._explained(step)

    async def _ado(self, step: Work) -> Any:
        match step:
            case Load():
                return await self._source.aload()
            case ReadBody(request):
                return await request.aread() if isinstance(request.stream, httpx.AsyncByteStream) else None
            case ReadBeginning(answer):
                return await aread_beginning(answer)
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Renew(refused):
                return await self._renew(refused)
            case Explain():
                return self._explained(step)

    async def _renew(self, refused: str | None) -> bool:
        # One request of this object renews at a time; the others, in any event loop, watch the record
        # meanwhile.
        if not self._renewing.acquire(blocking=False):
            return False
        try:
            from idiolectd.auth.renewal import renew

            await renew(self._source.place, self._source.account, refused)
        finally:
            self._renewing.release()
        return True

    def _explained(self, step: Explain) -> TokenRefused:
        return explain_refusal(step, self._source.reading, place=self._source.place, now=self._clock.now())
