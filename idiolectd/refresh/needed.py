"""`refresh_if_needed`: idiolect-oauth's function of that name, under the claim."""

import random
from typing import Any

from idiolectd.clock import Clock, SystemClock
from idiolectd.errors import (
    ConfigError,
    IdiolectError,
    NoSessionError,
    NothingSent,
    RefreshFailed,
    SessionRefused,
    TryLater,
)
from idiolectd.events import ignore_event
from idiolectd.outcome import (
    Ambiguous,
    Code,
    Current,
    Gone,
    Refreshed,
    RefreshOutcome,
    ReloginRequired,
    Retry,
    Suspended,
    Unpersisted,
    Verdict,
    judge,
)
from idiolectd.policy import CLAIM_PATIENCE, Policy
from idiolectd.ports import (
    AccessTokenStatus,
    AccountLocation,
    Answer,
    Arrived,
    NotRevoked,
    OAuthTokenStore,
    Prepared,
    Probe,
    Refresher,
    Refused,
    SharedStore,
)
from idiolectd.refresh.engine import RefreshEngine
from idiolectd.refresh.planner import Planner
from idiolectd.refresh.saving import SaveDeadline
from idiolectd.session import Kind, OAuthSession
from idiolectd.state import State, tokens_of


async def refresh_if_needed(
    store: SharedStore | OAuthTokenStore,
    refresher: Refresher,
    did: str,
    *,
    one_process: bool = False,
    clock: Clock | None = None,
    patience: float = CLAIM_PATIENCE,
) -> OAuthSession:
    """Returns a session whose access token can be used, refreshing it if it is about to end.

    About to end: within 60 s, or within 15 % of a short token's life. Beside a daemon this hardly
    ever sends anything. The claim is taken, so any number of processes may call it at once.

    Args:
        store: an idiolectd store; or one of your own with the methods of `OAuthTokenStore`, if `one_process`.
        refresher: called with the session, must return it with new tokens (and with a new DPoP key, if it has
            changed that). It says what it knows by what it raises: `NothingSent`, `TryLater`, `SessionRefused`.
            If it raises anything else, nobody knows whether the server rotated the token: it is called
            again after a settling time.
        did: whose session.
        one_process: no other process uses the store. Only then is a store of your own safe: it has no claims
            that others would see, and no notes that outlive this process.
        clock: wall-clock time, if not the machine's.
        patience: how many seconds to wait for another process, and for a store that does not take the
            new tokens (a foreign program keeps it locked, the disk is full). After that they are in the
            store's second place (``store.spill``), from where the next call takes them.

    Raises:
        ConfigError: the store has no claims, and `one_process` does not say that it needs none.
        NoSessionError: nothing is stored for the DID.
        RefreshFailed: it was needed and did not work; ``state`` says whether to wait or to log in.
            ``unpersisted``: the new tokens could not be saved; call again.
        LockBusy: another process worked on the session for longer than `patience`.
        StoreError: the store can't answer.
    """
    shared = _shared(store, one_process=one_process, clock=clock)
    clock = clock or SystemClock()
    planner = Planner(Policy(), session_life=_any_life, luck=random.random)
    entry = await shared.read(did)
    if entry.session is None:
        raise NoSessionError(did)
    if not planner.is_needed(entry.session, entry.state, clock.now()):
        return entry.session
    callback: Any = _Callback(refresher, entry.session.kind)
    engine = RefreshEngine(
        shared,
        {entry.session.kind: callback},
        planner=planner,
        clock=clock,
        events=ignore_event,
        save_deadline=SaveDeadline(patience),
    )
    attempt = await engine.refresh(did, needed=True, patience=patience)
    return session_or_error(did, attempt.outcome)


def _shared(store: SharedStore | OAuthTokenStore, *, one_process: bool, clock: Clock | None) -> SharedStore:
    if isinstance(store, SharedStore):
        return store
    if not one_process:
        raise ConfigError(
            f"{type(store).__name__} has no claims, so two processes would end each other's sessions: use one of"
            " idiolectd's stores, or say one_process=True if no other process uses it"
        )
    from idiolectd.store import OneProcessStore

    return OneProcessStore.over(store, clock=clock)


def session_or_error(did: str, outcome: RefreshOutcome) -> OAuthSession:
    """Turns an outcome into what a client gets.

    Raises:
        NoSessionError: the session was logged out.
        RefreshFailed: there is no usable session now.
    """
    match outcome:
        case Refreshed(session) | Current(session):
            return session
        case Gone():
            raise NoSessionError(did)
        case Retry(code, message):
            raise RefreshFailed(did, state=State.RETRYING, code=code, message=message)
        case Ambiguous(code, message):
            raise RefreshFailed(did, state=State.AMBIGUOUS, code=code, message=message)
        case Suspended(_, code, message):
            raise RefreshFailed(did, state=State.SUSPENDED, code=code, message=message)
        case ReloginRequired(_, code, message):
            raise RefreshFailed(did, state=State.RELOGIN_REQUIRED, code=code, message=message)
        case Unpersisted(message):
            raise RefreshFailed(did, state=State.UNPERSISTED, code=Code.UNPERSISTED, message=message)


class _Callback:
    """A client's `Refresher` in the shape of ours: one step, nobody to ask."""

    def __init__(self, refresher: Refresher, kind: Kind) -> None:
        self._refresher = refresher
        self.kind = kind
        self.has_grace = False

    async def locate(self, session: OAuthSession, *, with_handle: bool = False) -> AccountLocation:
        return AccountLocation(session)

    async def prepare(self, session: OAuthSession) -> Prepared[None]:
        return Prepared(None, session)

    async def send(self, session: OAuthSession, prepared: Prepared[None]) -> Answer:
        try:
            fresh = await self._refresher.refresh(session)
        except NothingSent as error:
            return Retry(Code.CALLBACK_FAILED, str(error))
        except TryLater as error:
            return Retry(Code.CALLBACK_FAILED, str(error), error.retry_after)
        except SessionRefused as error:
            cause = judge(self.kind, error.code, str(error)).cause
            return Refused(Verdict.SESSION, cause, error.code, str(error))
        except IdiolectError as error:
            return Ambiguous(Code.CALLBACK_FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a callback raises, the token may be rotated
            # Its text may quote tokens; its type can't.
            return Ambiguous(Code.CALLBACK_FAILED, f"the refresher raised {type(error).__name__}")
        mismatch = None if fresh.did == session.did else f"the refresher returned the session of {fresh.did}"
        return Arrived(tokens_of(fresh), mismatch)

    async def probe(self, session: OAuthSession) -> Probe:
        return Probe(AccessTokenStatus.NOT_CHECKABLE)

    async def revoke(self, session: OAuthSession) -> NotRevoked:
        return NotRevoked("the refresher can't revoke", passing=False)


def _any_life(_session: OAuthSession) -> float:
    """No limit: a client doesn't plan for a session's end, the daemon does."""
    return float("inf")
