"""What many tests need: virtual wall-clock time, session records, a server in memory.

The fakes are real implementations of the ports. They know no HTTP: `tests.simulator` does.
"""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio
import anyio.lowlevel

from idiolectd.clock import rfc3339
from idiolectd.events import Event
from idiolectd.outcome import Cause, Retry, Suspended, Verdict
from idiolectd.policy import Policy
from idiolectd.ports import AccessTokenStatus, AccountLocation, Answer, Arrived, Prepared, Probe, Refused
from idiolectd.refresh import Planner
from idiolectd.session import Kind, OAuthSession, Tokens

KEY = '{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}'
OTHER_KEY = KEY.replace("f83O", "g83O")


class Recorder:
    """An `EventSink` that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


def planner(
    *, luck: float = 0.5, session_life: float = 1e9, settle: float = 30.0, confirm: float = 120.0
) -> Planner:
    return Planner(
        Policy(settle=settle, confirm=confirm), session_life=lambda _session: session_life, luck=lambda: luck
    )


@dataclass
class FakeServer:
    """An authorization server with single-use tokens, as a `SplitRefresher`; it keeps no sessions' keys.

    Attributes:
        life: seconds an access token lives.
        sent: every refresh token that arrived, in order.
        replays: used tokens that arrived: on the real server each of them kills a session.
        before: awaited before an answer is made; may wait, or return another answer.
        after: given the answer that was made; may lose it.
        prepared: may refuse what is to be sent.
        located: says where an account lives; None: where the record says.
        handles: the confirmed handles of accounts.
        moved: the PDSs that accounts have moved to.
        endpoint: whose token endpoint it names; None: its own.
    """

    clock: Callable[[], float]
    life: float = 3600.0
    kind: Kind = "dpop"
    has_grace: bool = False
    issuer: str = "https://issuer.example"
    sent: list[str] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    replays: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)
    probe_answer: Probe = field(default_factory=lambda: Probe(AccessTokenStatus.UNKNOWN))
    before: Callable[[OAuthSession], Awaitable[Answer | None]] | None = None
    after: Callable[[Answer], Awaitable[Answer]] | None = None
    prepared: Callable[[OAuthSession], Retry | Suspended | None] | None = None
    located: Callable[[OAuthSession], Awaitable[OAuthSession | Suspended | Retry]] | None = None
    handles: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    identity_checks: int = 0
    _current: dict[str, str] = field(default_factory=dict)
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)

    def login(self, did: str, *, key: str | None = KEY) -> OAuthSession:
        """A new session of this server."""
        session = OAuthSession(
            did=did,
            pds_url="https://pds.example",
            access_jwt="",
            refresh_jwt="",
            dpop_private_key_jwk=key if self.kind == "dpop" else None,
            token_type="DPoP" if self.kind == "dpop" else "Bearer",
            issuer=self.issuer,
            client_id="http://localhost",
            client_auth_method="none",
        )
        return session.with_tokens(self._tokens(did))

    async def locate(
        self, session: OAuthSession, *, with_handle: bool = False
    ) -> AccountLocation | Suspended | Retry:
        await anyio.lowlevel.checkpoint()
        self.identity_checks += 1
        found = await self.located(session) if self.located else session
        if not isinstance(found, OAuthSession):
            return found
        handle = self.handles.get(session.did, "")
        named = replace(found, handle=handle or found.handle, confirmed_handle=handle)
        moved_to = self.moved.get(session.did)
        return AccountLocation(named if with_handle else found, is_handle_told=with_handle, moved_to=moved_to)

    async def prepare(self, session: OAuthSession) -> Prepared[None] | Retry | Suspended:
        await anyio.lowlevel.checkpoint()
        refusal = self.prepared(session) if self.prepared else None
        return refusal or Prepared(None, session, self.endpoint or self.issuer)

    async def send(self, session: OAuthSession, prepared: Prepared[None]) -> Answer:
        await anyio.lowlevel.checkpoint()
        self.sent.append(session.refresh_jwt)
        self.sent_at.append(self.clock())
        early = await self.before(session) if self.before else None
        answer = early or self._serve(session)
        return await self.after(answer) if self.after else answer

    async def probe(self, session: OAuthSession) -> Probe:
        await anyio.lowlevel.checkpoint()
        self.probed.append(session.access_jwt)
        return self.probe_answer

    @property
    def probes(self) -> int:
        """How often it was asked about an access token."""
        return len(self.probed)

    async def revoke(self, session: OAuthSession) -> None:
        await anyio.lowlevel.checkpoint()
        self.revoked.append(session.refresh_jwt)

    def is_current(self, session: OAuthSession) -> bool:
        return self._current.get(session.did) == session.refresh_jwt

    def _serve(self, session: OAuthSession) -> Answer:
        if not self.is_current(session):
            self.replays.append(session.refresh_jwt)
            self._current.pop(session.did, None)
            return Refused(Verdict.REPLAYED, Cause.REPLAYED, "invalid_grant", "Refresh token replayed")
        return Arrived(self._tokens(session.did))

    def _tokens(self, did: str) -> Tokens:
        serial, now = next(self._serial), self.clock()
        self._current[did] = f"refresh-{serial}"
        return Tokens(
            access_jwt=f"access-{serial}",
            refresh_jwt=f"refresh-{serial}",
            token_type="DPoP" if self.kind == "dpop" else "Bearer",
            issued_at=rfc3339(now),
            expires_at=rfc3339(now + self.life),
        )


def without_ours(session: OAuthSession) -> OAuthSession:
    """The session as a foreign program saves it: fields that it doesn't know are dropped."""
    return replace(
        session,
        issuer=None,
        client_id=None,
        client_auth_method=None,
        client_key_id=None,
        session_started_at=None,
        confirmed_handle=None,
        extra={},
    )


def did(number: int) -> str:
    """A DID for tests."""
    return f"did:plc:{number:024d}"
