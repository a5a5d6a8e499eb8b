"""Refreshes a session from within a client program, as ``idiolectd refresh`` does.

It uses the daemon's configuration, OAuth clients and claims, so both may run at the same time. As this is
rare, the store and the HTTP client are opened for one refresh and closed after it, and imported only then.
"""

import os
from typing import TYPE_CHECKING

from idiolectd.errors import RefreshFailed
from idiolectd.events import ignore_event
from idiolectd.outcome import Retry, Suspended
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.state import State, reconcile

if TYPE_CHECKING:
    from idiolectd.parts import Parts


async def renew(url: str, did: str, refused: str | None) -> None:
    """Refreshes a session if that is needed.

    Args:
        url: the store's URL.
        did: the account's DID.
        refused: an access token that the server refused; None: it is only about to expire.

    Raises:
        ConfigError: the configuration is wrong.
        NoSessionError: the session was logged out.
        RefreshFailed: there is no usable session now; ``state`` says whether to wait or to log in.
        LockBusy: another process holds the session's claim.
        StoreError: the store can't answer, or may not be written by this user.
    """
    from idiolectd.config import load_config
    from idiolectd.parts import open_parts
    from idiolectd.refresh.needed import session_or_error

    config = load_config(None, os.environ, store_url=url)
    async with open_parts(config, ignore_event) as parts:
        await _check_able(parts, did)
        attempt = await parts.engine.refresh(did, needed=True, patience=CLAIM_PATIENCE)
        if session_or_error(did, attempt.outcome).access_jwt == refused:
            # The server has ended the token before its time: only a new one helps.
            attempt = await parts.engine.refresh(did, force=True, patience=CLAIM_PATIENCE)
            session_or_error(did, attempt.outcome)


async def _check_able(parts: "Parts", did: str) -> None:
    """Raises if this process itself can't refresh the session, for lack of a key or a network.

    The engine would record such a failure in the session's state, which would delay the daemon, although the
    daemon may lack nothing.
    """
    entry = await parts.store.read(did)
    if entry.session is None:
        return
    session = reconcile(entry.session, entry.state, parts.clock.now()).session
    match await parts.refresher_for(session).prepare(session):
        case Suspended(_, code, message):
            raise RefreshFailed(did, state=State.SUSPENDED, code=code, message=message)
        case Retry(code, message):
            raise RefreshFailed(did, state=State.RETRYING, code=code, message=message)
