"""The ``atproto`` SDK with a stored session: its clients, as if they were logged in.

The SDK itself never logs in and never refreshes: `SessionAuth` below its httpx client authorizes its requests.
"""

from typing import Any

from atproto import (  # type: ignore[import-untyped]  # it ships no py.typed
    AsyncClient,
    AsyncRequest,
    Client,
    Request,
    models,
)

from idiolectd.adapters.httpx import SessionAuth
from idiolectd.session import OAuthSession
from idiolectd.store import load_session


def client(store: str | None, account: str, **options: Any) -> Any:
    """An `atproto.Client` of an account: its namespaces and its shortcuts (``send_post``, ``like``, …) work.

    Sends nothing by itself, so ``client.me`` has the DID and the handle, and no other part of the profile.

    Args:
        store: the store's URL or path; None: the configured store.
        account: a DID, or the confirmed handle of a stored session.
        options: as for `httpx.Client`.

    Raises:
        As `idiolectd.load_session`.
    """
    session = load_session(store, account)
    request = Request(auth=SessionAuth(store, session.did), **options)
    return _as_logged_in(Client(base_url=session.pds_url, request=request), session)


def async_client(store: str | None, account: str, **options: Any) -> Any:
    """As `client`, an `atproto.AsyncClient`."""
    session = load_session(store, account)
    request = AsyncRequest(auth=SessionAuth(store, session.did), **options)
    return _as_logged_in(AsyncClient(base_url=session.pds_url, request=request), session)


def _as_logged_in(made: Any, session: OAuthSession) -> Any:
    # The shortcuts ask for the account's DID only. What stands for a handle that is not valid is the
    # specification's (https://atproto.com/specs/handle).
    handle = session.known_as or "handle.invalid"
    made.me = models.AppBskyActorDefs.ProfileViewDetailed(did=session.did, handle=handle)
    return made
