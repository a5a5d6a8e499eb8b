"""Makes the rows of ``status`` and ``check`` from the stored records and refresh states, and nothing else.

The fields and their order are an interface. Due times and deadlines come from the functions that the daemon
plans by, so that both agree.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.output import say
from idiolectd.clock import parse_rfc3339
from idiolectd.config import Config
from idiolectd.errors import RecordError, StoreError
from idiolectd.outcome import Cause
from idiolectd.policy import Policy, due_at
from idiolectd.ports import SharedStore, StoredSession
from idiolectd.remedy import PLAIN, Action, Commands, remedy_for, remedy_for_unreadable
from idiolectd.session import Kind, OAuthSession
from idiolectd.state import (
    ENDING,
    RefreshState,
    State,
    TokenTimes,
    is_under_way,
    latest_end,
    reconcile,
    session_deadline,
    shown,
    withheld,
)

# What `StatusRow.word` may say beside a state.
OVERDUE = "overdue"
PAUSED = "paused"

# The order of the rows and of the totals, by `StatusRow.word`.
_WORST_FIRST = (
    State.RELOGIN_REQUIRED.value,
    State.UNPERSISTED.value,
    OVERDUE,
    State.SUSPENDED.value,
    State.QUARANTINED.value,
    State.AMBIGUOUS.value,
    State.RETRYING.value,
    ENDING,
    PAUSED,
    State.DUE.value,
    State.FRESH.value,
)


@dataclass(frozen=True, kw_only=True)
class ErrorRow:
    """The last thing that went wrong."""

    code: str
    message: str
    at: str | None


@dataclass(frozen=True, kw_only=True)
class WithheldRow:
    """New tokens from a refresh that are kept beside the session, unused. The old refresh token is spent.

    Attributes:
        reason: ``mismatch``: the tokens are of another account or kind; ``unconfirmed``: the token response
            does not say whose they are.
        issued_at: when they arrived.
        todo: what the daemon does next, or what a person has to do.
    """

    reason: Literal["mismatch", "unconfirmed"]
    issued_at: str | None
    todo: str


@dataclass(frozen=True, kw_only=True)
class StatusRow:
    """One object of ``status --json``. Times are in RFC 3339; None is JSON's null.

    Attributes:
        held_by: the process that holds the claim; looked up only for sessions that are due or overdue.
    """

    did: str | None
    handle: str | None
    handle_confirmed: bool
    claimed_handle: str | None
    pds_url: str | None
    issuer: str | None
    kind: Kind | None
    account_status: str | None
    state: State
    cause: str | None
    action: str | None
    advice: str | None
    ending: bool
    overdue: bool
    held_by: str | None = None
    issued_at: str | None
    expires_at: str | None
    refresh_expires_at: str | None
    session_deadline: str | None
    deadline_is_latest: bool
    next_attempt_at: str | None
    last_success_at: str | None
    attempts: int
    refused_since: str | None
    last_error: ErrorRow | None
    withheld: WithheldRow | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the object for ``--json``."""
        return {**asdict(self), "needs_person": self.needs_person}

    @property
    def needs_person(self) -> bool:
        """Whether a person has something to do for it, or its access token has ended unrefreshed."""
        return self.action is not None or self.overdue

    @property
    def counted_as(self) -> str:
        """What totals call it: its state, or ``ending`` while it is well and a login is needed all the same."""
        well = self.state in (State.FRESH, State.DUE)
        return ENDING if well and self.action is not None else self.state.value

    @property
    def word(self) -> str:
        """The one word that says how the session is: its state, unless something else is more urgent."""
        if self.cause == Cause.PAUSED:
            return PAUSED
        return OVERDUE if self.overdue else self.counted_as

    @property
    def needs_a_look(self) -> bool:
        """Whether it is not simply well: not fresh, due and being worked on."""
        return self.word not in (State.FRESH, State.DUE)

    @property
    def rank(self) -> tuple[int, str, str]:
        """The sort key: the worst first, then the earliest expiry."""
        return _WORST_FIRST.index(self.word), self.expires_at or "", self.did or ""


async def read_all_rows(store: SharedStore, config: Config, now: float) -> list[StatusRow]:
    """Reads the rows of all records, the unreadable ones included, worst first."""
    survey = await store.survey()
    rows = await read_rows(store, config, survey.dids, now)
    known = {row.did for row in rows}
    rows += [unreadable_row(damage, config.commands) for damage in survey.broken if damage.did not in known]
    return sorted(rows, key=lambda row: row.rank)


async def read_needy_rows(store: SharedStore, config: Config, dids: list[str], now: float) -> list[StatusRow]:
    """Reads the rows that need a look: of these DIDs, and of all that have spilled tokens."""
    rows = await read_rows(store, config, dids, now, and_spilled=True)
    return [row for row in rows if row.needs_a_look]


async def read_rows(
    store: SharedStore, config: Config, dids: list[str], now: float, *, and_spilled: bool = False
) -> list[StatusRow]:
    """Reads the rows of these DIDs, worst first; a DID without a stored session has none.

    Args:
        store: the store.
        config: for the timing.
        dids: whose rows.
        now: seconds since the epoch.
        and_spilled: also the rows of all DIDs that have spilled tokens, which no index of the store knows.
    """
    rows: list[StatusRow] = []
    waiting = await _waiting(store)
    if and_spilled:
        dids = list(dict.fromkeys([*dids, *sorted(waiting)]))

    async def read(did: str) -> StatusRow | None:
        try:
            entry = await store.read(did)
        except RecordError as error:
            return unreadable_row(error, config.commands)
        row = session_row(entry, config, now, spilled=did in waiting and await _is_spilled(store, entry))
        if row is not None and (row.overdue or row.state is State.DUE):
            row = replace(row, held_by=await store.claim_holder(did))
        return row

    for did in dids:
        row = await isolate_bug(did, partial(read, did), partial(bug_row, did))
        if row is not None:
            rows.append(row)
    return sorted(rows, key=lambda row: row.rank)


async def _waiting(store: SharedStore) -> set[str]:
    """Returns the DIDs that have spilled tokens; those tokens may be outdated by now."""
    if store.spill is None:
        return set()
    found = await store.spill.survey()
    for broken in found.broken:
        say(f"warning: {broken}")
    return set(found.dids)


async def _is_spilled(store: SharedStore, entry: StoredSession) -> bool:
    session = entry.session
    if session is None or store.spill is None:
        return False
    with suppress(StoreError):  # `_waiting` has reported it
        return await store.spill.find(session.did, session.refresh_token_hash) is not None
    return False


def session_row(
    entry: StoredSession, config: Config, now: float, *, spilled: bool = False
) -> StatusRow | None:
    """Makes the row of a session that can be read; None: no session is stored.

    Args:
        entry: the record and the refresh state.
        config: the refresh window and the sessions' lifetimes.
        now: seconds since the epoch.
        spilled: newer tokens are in the spill folder.
    """
    if entry.session is None:
        return None
    adopted = reconcile(entry.session, entry.state, now)
    session, state = adopted.session, adopted.state
    next_at = state.next_attempt_at
    if next_at is None and state.state is State.FRESH:  # not planned yet: as the daemon will plan it
        next_at = _due_at(session, state, config, now)
    shown_state = State.UNPERSISTED if spilled else _shown_state(state, next_at, now)
    error = state.last_error
    cause = state.cause
    if state.paused and shown_state not in (State.RELOGIN_REQUIRED, State.UNPERSISTED):
        shown_state, cause, next_at = State.SUSPENDED, Cause.PAUSED, None
    todo = remedy_for(session.did, shown_state, cause, session=session, commands=config.commands)
    kept = _withheld_row(state)
    life = config.oauth.session_life_of(session)
    known_end, latest = session_deadline(session, life), latest_end(session, state, life)
    if todo is None and (state.ending or state.warned is not None or state.moved_to is not None):
        todo = Action(config.commands.login(session.did, session))
    return StatusRow(
        did=session.did,
        handle=session.known_as,
        handle_confirmed=bool(session.confirmed_handle),
        claimed_handle=state.claimed_handle,
        pds_url=session.pds_url,
        issuer=session.issuer,
        kind=session.kind,
        account_status="moved" if state.moved_to is not None else state.account_status,
        state=shown_state,
        cause=cause,
        action=todo.command if todo is not None else None,
        advice=todo.advice if todo is not None else None,
        ending=state.ending,
        overdue=shown_state not in (State.RELOGIN_REQUIRED, State.SUSPENDED)
        and TokenTimes.of(session, state, now).expires_at <= now,
        issued_at=shown(parse_rfc3339(session.issued_at)),
        expires_at=shown(parse_rfc3339(session.expires_at)),
        refresh_expires_at=shown(parse_rfc3339(session.refresh_expires_at)),
        session_deadline=shown(known_end if latest is None else latest),
        deadline_is_latest=latest is not None,
        next_attempt_at=shown(next_at),
        last_success_at=shown(state.last_success_at),
        attempts=state.attempts,
        refused_since=shown(state.refused_since),
        last_error=None
        if error is None
        else ErrorRow(code=error.code, message=error.message, at=shown(error.at)),
        withheld=kept,
    )


def _withheld_row(state: RefreshState) -> WithheldRow | None:
    kept = withheld(state)
    if kept is None:
        return None
    issued_at = shown(parse_rfc3339(kept.issued_at))
    if state.unconfirmed is not None and state.state is not State.SUSPENDED:
        todo = "the account's PDS is asked whether they are this session's"
        return WithheldRow(reason="unconfirmed", issued_at=issued_at, todo=todo)
    reason: Literal["mismatch", "unconfirmed"] = "mismatch" if state.unconfirmed is None else "unconfirmed"
    return WithheldRow(
        reason=reason,
        issued_at=issued_at,
        todo="log in again, then end the unknown session in the account's settings at its server",
    )


def unreadable_row(error: RecordError, commands: Commands) -> StatusRow:
    """Makes the row of a record that can't be read, from its error."""
    todo = remedy_for_unreadable(error.did, error.place, commands=commands)
    return StatusRow(
        did=error.did,
        handle=None,
        handle_confirmed=False,
        claimed_handle=None,
        pds_url=None,
        issuer=None,
        kind=None,
        account_status=None,
        state=State.QUARANTINED,
        cause=Cause.UNREADABLE,
        action=todo.command,
        advice=todo.advice,
        ending=False,
        overdue=False,
        issued_at=None,
        expires_at=None,
        refresh_expires_at=None,
        session_deadline=None,
        deadline_is_latest=False,
        next_attempt_at=None,
        last_success_at=None,
        attempts=0,
        refused_since=None,
        last_error=ErrorRow(code=Cause.UNREADABLE, message=str(error), at=None),
    )


def bug_row(did: str, message: str) -> StatusRow:
    """Makes the row of a session that a bug keeps from being shown."""
    row = unreadable_row(RecordError(did, message, did=did), PLAIN)
    return replace(
        row,
        cause=Cause.BUG,
        action=None,
        advice=None,
        last_error=ErrorRow(code=Cause.BUG, message=message, at=None),
    )


def totals(rows: list[StatusRow]) -> Mapping[str, int]:
    """Counts the sessions in each state, worst first; states without sessions are left out."""
    return worst_first(Counter(row.counted_as for row in rows))


def worst_first(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Puts numbers of sessions by state in order, without zeros; names that are no state come last."""
    names = dict.fromkeys((*_WORST_FIRST, *counts))
    return {name: counts[name] for name in names if counts.get(name, 0) > 0}


def _shown_state(state: RefreshState, next_at: float | None, now: float) -> State:
    if state.state is State.AMBIGUOUS and is_under_way(state) and next_at is not None and now < next_at:
        return State.DUE  # the request is in flight; it is ambiguous only if its time runs out
    if state.state is State.FRESH and next_at is not None and next_at <= now:
        return State.DUE
    return state.state


def _due_at(session: OAuthSession, state: RefreshState, config: Config, now: float) -> float:
    times = TokenTimes.of(session, state, now)
    policy = Policy(window=config.refresh.window, settle=config.refresh.settle)
    return due_at(
        policy,
        issued_at=times.issued_at,
        expires_at=times.expires_at,
        token_hash=session.refresh_token_hash,
    )
