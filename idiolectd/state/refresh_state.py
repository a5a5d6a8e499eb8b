"""The durable refresh state of one session, and every transition it can make. Pure.

A transition takes a fact and returns the next state; nothing outside of `idiolectd.state` sets a field.
Stores write a state in one step with the tokens that it belongs to. It lies beside the session record and
never inside it: other programs rewrite records whole and would drop it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from idiolectd.copying import built, replace
from idiolectd.errors import NewerState, SessionError, UrlError
from idiolectd.foreign import number
from idiolectd.outcome import Code
from idiolectd.session import OAuthSession, normal_handle
from idiolectd.url import Url

# A foreign writer holds at most a few generations; each entry costs 43 bytes a session.
_SPENT_KEPT = 16

# What a server says of an account that is as it should be; see `RefreshState.account_status`.
ACTIVE = "active"

# https://atproto.com/specs/handle
_LONGEST_HANDLE = 253


class State(StrEnum):
    """What a session is, for programs and for people."""

    FRESH = "fresh"
    DUE = "due"  # never stored: fresh, and its time has come
    RETRYING = "retrying"
    AMBIGUOUS = "ambiguous"
    UNPERSISTED = "unpersisted"
    SUSPENDED = "suspended"
    RELOGIN_REQUIRED = "relogin_required"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class LastError:
    """The last thing that went wrong: a fixed code, a text for people, when."""

    code: str
    message: str
    at: float


@dataclass(frozen=True)
class Note:
    """Written before the first byte: this refresh token is about to be sent.

    It counts only while its hash is the stored token's, so nothing has to clear it.

    Attributes:
        token_hash: of the refresh token.
        at: when it was last about to be sent.
        unclear: how many sendings of it had no clear answer, this one included until it has one.
    """

    token_hash: str
    at: float
    unclear: int


# A foreign program may bring its own words for these, and no server is told them.
_NOT_COMPARED = ("session_started_at", "confirmed_handle")


@dataclass(frozen=True, kw_only=True)
class Pins:
    """What a session is bound to for life. Kept here because a foreign save drops unknown fields.

    The same happens to `confirmed_handle`, which is kept along; it is the account's, may change, and
    follows the record.
    """

    dpop_thumbprint: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    client_auth_method: str | None = None
    client_key_id: str | None = None
    session_started_at: str | None = None
    confirmed_handle: str | None = None

    @classmethod
    def of(cls, session: OAuthSession) -> Self:
        """The pins that a record carries."""
        return cls(**{name: getattr(session, name) for name in _PINNED})

    def filled_from(self, session: OAuthSession) -> Self:
        """These pins, completed where they hold nothing."""
        found = {
            name: value
            for name, pinned in vars(self).items()
            if pinned is None and (value := getattr(session, name)) is not None
        }
        if session.confirmed_handle not in (None, self.confirmed_handle):
            found["confirmed_handle"] = session.confirmed_handle
        return replace(self, **found) if found else self

    def restored_to(self, session: OAuthSession) -> OAuthSession:
        """The session with the fields put back that somebody dropped. What it holds, it keeps."""
        dropped = {
            name: pinned
            for name, pinned in vars(self).items()
            if pinned is not None and name != "dpop_thumbprint" and getattr(session, name) is None
        }
        return replace(session, **dropped) if dropped else session

    def contradiction(self, session: OAuthSession) -> str | None:
        """The name of a field in which the record disagrees with its pin; None if there is none."""
        for name, pinned in vars(self).items():
            found = getattr(session, name)
            if name in _NOT_COMPARED or not pinned or not found or pinned == found:
                continue
            if name == "issuer" and _is_same_server(pinned, found):
                continue
            return name
        return None


_PINNED = tuple(f.name for f in fields(Pins))


@dataclass(frozen=True, kw_only=True)
class RefreshState:
    """Everything that is known about one session's refreshing.

    Attributes:
        state: see `State`.
        cause: why it is `suspended`, `relogin_required` or `quarantined`; while it is `retrying`, what the
            server says in a row of refusals.
        attempts: failures in a row.
        refusals: how often in a row a server has refused the session, or its client.
        refused_since: when the first of them was heard.
        refused_as: the cause that the first of them named.
        last_success_at: when tokens were last rotated by us.
        last_error: kept after a success too; compare its time with `last_success_at`.
        next_attempt_at: when to act next; None: not before the record or the configuration changes.
        note: see `Note`.
        spent: hashes of refresh tokens that must never be sent again, newest last.
        last_good: JSON of the last record known to be right. Protected like the record.
        withheld: JSON of the session with tokens that arrived and are not published. Either they don't fit,
            and a person has to judge, or the PDS has not confirmed yet that they do (`unconfirmed`).
        unconfirmed: what the answer lacked to say that the withheld tokens fit; the PDS is asked. None:
            they don't fit.
        restored: hash of a refresh token that came back from a copy: it may have been used up since, elsewhere
            or here. It counts only while it is the stored token's.
        displaced: JSON of the record that lost against the stored one although no server's time proves
            which of the two is newer; kept until the server has shown which one lives.
        previous_refresh_token: a legacy session's refresh token before the present one: it works for two hours
            more, so whoever logs out has to end it too.
        pins: see `Pins`.
        token_seen_at: when the stored refresh token was first seen.
        first_seen_at: when the session was first seen; see `idiolectd.state.times.latest_end`.
        identity_checked_at: when DID, PDS, issuer and handle were last compared.
        identity_doubted: the server said something of the account that only its DID document can confirm.
        claimed_handle: what the server called the account last, if that is not how it is known; it is
            used for nothing before it is confirmed. None: it says nothing else.
        account_status: why the account is not active (``deactivated``, ``takendown``, ...), as its server
            said last beside new tokens; None: it is, or nobody said.
        moved_to: the PDS that the account has moved to, while this session is still its old one's.
        ending: the session's absolute end is near; a refresh can't extend it.
        warned: how near the end was, in seconds, when it was last warned of; see `policy.end_warning`.
        paused: a person has paused the session (`idiolectd pause`). It belongs to the account: a login and
            another program's rotation leave it as it is.
        migrated_to: the URL of the store that has taken the session over (`idiolectd migrate`). It is paused here
            for good: nothing resumes it but a new login.
    """

    state: State = State.FRESH
    cause: str | None = None
    attempts: int = 0
    refusals: int = 0
    refused_since: float | None = None
    refused_as: str | None = None
    last_success_at: float | None = None
    last_error: LastError | None = None
    next_attempt_at: float | None = None
    note: Note | None = None
    spent: tuple[str, ...] = ()
    last_good: str | None = field(default=None, repr=False)
    withheld: str | None = field(default=None, repr=False)
    unconfirmed: str | None = None
    displaced: str | None = field(default=None, repr=False)
    restored: str | None = None
    previous_refresh_token: str | None = field(default=None, repr=False)
    pins: Pins = Pins()
    token_seen_at: float | None = None
    first_seen_at: float | None = None
    identity_checked_at: float | None = None
    identity_doubted: bool = False
    claimed_handle: str | None = None
    account_status: str | None = None
    moved_to: str | None = None
    ending: bool = False
    warned: float | None = None
    paused: bool = False
    migrated_to: str | None = None

    def to_json(self) -> str:
        """What stores keep; the reverse of `from_json`."""
        record: dict[str, Any] = {"version": 1}
        for name, value in vars(self).items():
            if value is not None and value != _DEFAULTS[name]:
                record[_JSON_KEYS.get(name, name)] = vars(value) if name in _NESTED else value
        return _ENCODER.encode(record)

    def with_secrets(self, change: Callable[[str, str], str]) -> Self:
        """This state, each text with tokens in it replaced by what `change` makes of its name in JSON and itself."""
        changes: dict[str, Any] = {}
        for name in _SECRETS:
            text = getattr(self, name)
            if text:
                changes[name] = change(_JSON_KEYS.get(name, name), text)
        return replace(self, **changes)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads a stored state.

        Raises:
            SessionError: it is damaged.
            NewerState: it is of a version this program doesn't know.
        """
        try:
            raw = json.loads(text)
            version = raw.pop("version")
            if isinstance(version, int) and version > 1:
                raise NewerState("the refresh state was written by a newer idiolectd: upgrade this one")
            if version != 1:
                raise SessionError("the refresh state is damaged: it has no version")
            return built(cls, _typed(raw))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise SessionError("the refresh state is damaged") from None

    @classmethod
    def unreadable(cls, message: str, now: float) -> Self:
        """Starts a state anew in the place of a stored one that can't be read; its last error says so."""
        return cls(last_error=LastError(Code.STATE_DAMAGED, message, now))

    def note_on(self, session: OAuthSession) -> Note | None:
        """The note, if it speaks of the token that is stored now."""
        return self.note if self.note and self.note.token_hash == session.refresh_token_hash else None

    def is_unclear(self, session: OAuthSession) -> bool:
        """Whether the stored refresh token was sent, and nobody knows what became of it."""
        note = self.note_on(session)
        return note is not None and note.unclear > 0

    def is_restored(self, session: OAuthSession) -> bool:
        """Whether the stored refresh token came back from a copy, and may be used up."""
        return self.restored is not None and self.restored == session.refresh_token_hash

    # Transitions -----------------------------------------------------------------------------

    def planned(self, at: float | None) -> Self:
        """The session is worked on next at that time (epoch seconds); None: not before something changes."""
        return replace(self, next_attempt_at=at)

    def planned_to_end(self, at: float, *, ending: bool, warned: float | None) -> Self:
        """The stored tokens are planned for, and how near the session's absolute end is was looked at.

        Args:
            at: when the session is worked on next, in epoch seconds.
            ending: see `RefreshState.ending`.
            warned: see `RefreshState.warned`.
        """
        return replace(self, next_attempt_at=at, ending=ending, warned=warned)

    def paused_by_person(self) -> Self:
        """A person took the session out of our hands."""
        return replace(self, paused=True)

    def resumed_by_person(self) -> Self:
        """A person gave the session back to us."""
        return replace(self, paused=False)

    def migrated(self, store: str) -> Self:
        """Another store has the session and its state now, and only there its refresh token is sent."""
        return replace(self, paused=True, migrated_to=store)

    def restored_from_copy(self, session: OAuthSession) -> Self:
        """The record came back from a copy that knows nothing of what happened since."""
        return replace(self, restored=session.refresh_token_hash)

    def noting(self, session: OAuthSession, now: float) -> Self:
        """The refresh token is about to be sent; what was learnt of the session until now is pinned."""
        earlier = self.note_on(session)
        unclear = 1 + (earlier.unclear if earlier else 0)
        note = Note(session.refresh_token_hash, now, unclear)
        return replace(self, pins=self.pins.filled_from(session), note=note)

    def awaiting_answer(self) -> Self:
        """The refresh token is being sent: whoever finds this state after a crash knows of no answer."""
        return replace(self, state=State.AMBIGUOUS)

    def answered(self) -> Self:
        """The last sending had a clear answer; earlier unclear ones stay counted."""
        return replace(self, note=replace(self.note, unclear=self.note.unclear - 1) if self.note else None)

    def rotated(self, before: OAuthSession, after: OAuthSession, now: float) -> Self:
        """`after` holds the tokens that came for those of `before`."""
        spent, pins = self.spent, self.pins
        if after.refresh_token_hash != before.refresh_token_hash:
            spent = with_spent(spent, before.refresh_token_hash)
        if after.dpop_thumbprint != before.dpop_thumbprint:  # a client program's own refresher has changed it
            pins = replace(pins, dpop_thumbprint=after.dpop_thumbprint)
        return replace(
            self,
            state=State.FRESH,
            cause=None,
            attempts=0,
            refusals=0,
            refused_since=None,
            refused_as=None,
            last_success_at=now,
            note=None,
            spent=spent,
            last_good=after.to_json(),
            withheld=None,
            unconfirmed=None,
            displaced=None,
            restored=None,
            previous_refresh_token=before.refresh_jwt if before.kind == "bearer" else None,
            pins=pins.filled_from(after),
            token_seen_at=now,
            first_seen_at=self._first_seen_at(now),
        )

    def withholding(
        self, before: OAuthSession, after: OAuthSession, now: float, *, unconfirmed: str | None
    ) -> Self:
        """`after` holds the tokens that came for those of `before`, and the record keeps `before`.

        Args:
            before: the record as it is, its refresh token used up if another one came.
            after: the same with the tokens that came.
            now: seconds since the epoch.
            unconfirmed: see there.
        """
        return replace(
            self.rotated(before, after, now),
            last_success_at=self.last_success_at,
            last_good=self.last_good,
            withheld=after.to_json(),
            unconfirmed=unconfirmed,
        )

    def contradicted(self) -> Self:
        """The PDS says that the withheld tokens are another account's: they stay withheld for a person."""
        return replace(self, unconfirmed=None)

    def account_moved(self, moved_to: str) -> Self:
        """The account's DID document names another PDS, which the session does not go along to."""
        return replace(self, moved_to=moved_to)

    def named_by_server(self, handle: str | None, known: str | None) -> Self:
        """The server called the account by a handle (None: by none) in an answer with tokens.

        Args:
            handle: the server's word.
            known: how the account is known.
        """
        claimed = normal_handle(handle or "")
        if len(claimed) > _LONGEST_HANDLE or claimed in ("", normal_handle(known or "")):
            return replace(self, claimed_handle=None)
        is_new = claimed != self.claimed_handle
        return replace(self, claimed_handle=claimed, identity_doubted=self.identity_doubted or is_new)

    def with_account_status(self, status: str | None) -> Self:
        """The server said this of the account beside its tokens; None: nothing, so nothing changes."""
        if status is None:
            return self
        inactive = None if status == ACTIVE else status
        changed = inactive is not None and inactive != self.account_status
        # It may have moved, or be gone: its DID document tells.
        return replace(self, account_status=inactive, identity_doubted=self.identity_doubted or changed)

    def named(self, session: OAuthSession) -> Self:
        """The handle of `session` was confirmed, or found to be none."""
        known = normal_handle(session.known_as or "")
        return replace(
            self,
            claimed_handle=None if self.claimed_handle == known else self.claimed_handle,
            last_good=session.to_json(),
            pins=self.pins.filled_from(session),
        )

    def identified(
        self, session: OAuthSession, now: float, *, is_handle_told: bool, moved_to: str | None
    ) -> Self:
        """The account's DID document was asked for, and what it leads to.

        Args:
            session: as it says.
            now: seconds since the epoch.
            is_handle_told: whether the session's handle could be told; if not, it is asked for again.
            moved_to: another PDS, which the session does not go along to.
        """
        return replace(
            self.named(session),
            identity_checked_at=now,
            identity_doubted=not is_handle_told,
            moved_to=moved_to,
        )

    def refused(self, cause: str, now: float, *, anew: bool = False) -> Self:
        """One more refusal of the row, or the first one of a new row. The state is left to the judge.

        Args:
            cause: our name for what the server says.
            now: seconds since the epoch.
            anew: it does not belong to the earlier ones.
        """
        if anew or self.refused_since is None:
            return replace(self, refusals=1, refused_since=now, refused_as=cause)
        since = min(self.refused_since, now)  # a clock that was set back has no say in it
        return replace(self, refusals=self.refusals + 1, refused_since=since)

    def unrefused(self) -> Self:
        """The row of refusals has ended: a server in trouble proves nothing by what it said before."""
        return replace(self, refusals=0, refused_since=None, refused_as=None)

    def proven(self) -> Self:
        """The server has shown that the stored record is the newest."""
        return replace(self, displaced=None)

    def brought_back(self, stored: OAuthSession, other: OAuthSession, now: float) -> Self:
        """`other` had lost against the stored record, and lives; the stored one is an old copy."""
        same_key = other.dpop_thumbprint == stored.dpop_thumbprint
        unspent = tuple(kept for kept in self.spent if kept != other.refresh_token_hash)
        return type(self)(
            spent=with_spent(unspent, stored.refresh_token_hash),
            last_good=other.to_json(),
            pins=(self.pins if same_key else Pins()).filled_from(other),
            last_success_at=self.last_success_at,
            token_seen_at=now,
            restored=None if self.restored is None else other.refresh_token_hash,
            first_seen_at=self._first_seen_at(now) if same_key else now,
            paused=self.paused,
        )

    def _first_seen_at(self, now: float) -> float:
        """When the session was first seen; versions up to 0.4 kept only when its present token was."""
        return next((at for at in (self.first_seen_at, self.token_seen_at) if at is not None), now)

    def failed(self, state: State, code: str, message: str, now: float, *, cause: str | None = None) -> Self:
        """An attempt, or a check before it, did not bring tokens."""
        return replace(
            self,
            state=state,
            cause=cause,
            attempts=self.attempts + 1,
            last_error=LastError(code, message, now),
        )


def _is_same_server(one: str, other: str) -> bool:
    """Whether two URLs are spellings of one issuer: a slash behind it, capitals, the usual port."""
    try:
        return str(Url.parse(one)) == str(Url.parse(other))
    except UrlError:
        return False


def with_spent(spent: tuple[str, ...], token_hash: str) -> tuple[str, ...]:
    """A list of spent tokens with one more, bounded."""
    return (*(kept for kept in spent if kept != token_hash), token_hash)[-_SPENT_KEPT:]


# Where a field is not called in JSON as it is here.
_JSON_KEYS = {"previous_refresh_token": "predecessor"}

# What holds tokens.
_SECRETS = ("last_good", "withheld", "displaced", "previous_refresh_token")

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _typed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """All fields, each of its type.

    Raises:
        TypeError, ValueError: one is not.
    """
    values = dict(_DEFAULTS)
    for key, value in raw.items():
        if (known := _BY_KEY.get(key)) is not None:
            name, check = known
            values[name] = check(value)
    for name, (kind, of) in _NESTED.items():
        if (found := raw.get(name)) is not None:
            values[name] = kind(**{key: check(found[key]) for key, check in of.items() if key in found})
    return values


def _a(*kinds: type) -> Callable[[Any], Any]:
    """Lets values of these types pass; a boolean is no number, and a number is finite."""

    def check(value: Any) -> Any:
        if type(value) not in kinds or (type(value) in (int, float) and number(value) is None):
            raise TypeError
        return value

    return check


_NONE = type(None)
_TEXT = _a(str, _NONE)
_TIME = _a(int, float, _NONE)
_FIELDS: dict[str, Callable[[Any], Any]] = {
    "state": State,
    "cause": _TEXT,
    "attempts": _a(int),
    "refusals": _a(int),
    "refused_since": _TIME,
    "refused_as": _TEXT,
    "last_success_at": _TIME,
    "last_error": _a(dict, _NONE),
    "next_attempt_at": _TIME,
    "note": _a(dict, _NONE),
    "spent": lambda value: tuple(_a(str)(spent) for spent in _a(list)(value)),
    "last_good": _TEXT,
    "withheld": _TEXT,
    "unconfirmed": _TEXT,
    "displaced": _TEXT,
    "restored": _TEXT,
    "previous_refresh_token": _TEXT,
    "pins": _a(dict),
    "token_seen_at": _TIME,
    "first_seen_at": _TIME,
    "identity_checked_at": _TIME,
    "identity_doubted": _a(bool),
    "claimed_handle": _TEXT,
    "account_status": _TEXT,
    "moved_to": _TEXT,
    "ending": _a(bool),
    "warned": _TIME,
    "paused": _a(bool),
    "migrated_to": _TEXT,
}
_NESTED: dict[str, tuple[type, dict[str, Callable[[Any], Any]]]] = {
    "last_error": (LastError, {"code": _a(str), "message": _a(str), "at": _a(int, float)}),
    "note": (Note, {"token_hash": _a(str), "at": _a(int, float), "unclear": _a(int)}),
    "pins": (Pins, dict.fromkeys(_PINNED, _TEXT)),
}
_DEFAULTS = {f.name: f.default for f in fields(RefreshState)}
_BY_KEY = {_JSON_KEYS.get(name, name): (name, check) for name, check in _FIELDS.items()}
