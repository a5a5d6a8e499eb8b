"""What the servers know: options, accounts, clients, sessions, counters.

Does: keep and index the data, and hand out random values (repeatable with a seed).
Does not: decide anything about a request; ``oauth``, ``legacy`` and ``resource`` do.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.simulator.proofs import NonceSpace, OnceOnly

DAY = 86400.0
LOOPBACK_CLIENT_ID = (
    "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&scope=atproto%20transition%3Ageneric"
)
SCOPE = "atproto transition:generic"


@dataclass
class Options:
    """Everything adjustable; may be changed while the simulator runs."""

    access_life: float = 3600.0  # OAuth access tokens, seconds; fractions are enforced
    session_life: float = 14 * DAY  # public clients, since login
    refresh_idle_life: float = 14 * DAY  # public clients, since the last refresh
    confidential_session_life: float = 730 * DAY
    confidential_refresh_idle_life: float = 90 * DAY
    stateless_access_tokens: bool = False  # entryway style: a rotated access token lives until it expires
    opaque_access_tokens: bool = False  # no JWT shape: a client must not depend on it
    rotate_refresh_tokens: bool = True  # False: the same refresh token comes back, as some servers do
    nonce_rotation: float = 60.0
    separate_nonces: bool = True  # False: one space per origin, AS and PDS share it on one origin
    proof_window: float = 180.0  # how far a proof's iat may be off, either way
    server_clock_offset: float = 0.0  # the servers' clock against the injected one
    legacy_access_life: float = 7200.0
    legacy_refresh_life: float = 90 * DAY
    legacy_grace: float = 7200.0
    rate_limits: bool = False  # createSession, 30 in 5 minutes


@dataclass
class Account:
    """One account; ``pds_url`` overrides what its DID document names (a migration)."""

    did: str
    handle: str
    password: str
    status: Literal["active", "takendown", "deactivated", "deleted"] = "active"
    pds_url: str | None = None
    email_code: str | None = None  # what createSession wants as authFactorToken


@dataclass
class Client:
    """A registered client: confidential if it has keys."""

    client_id: str
    keys: dict[str, dict[str, Any]]  # kid → public JWK
    redirect_uris: tuple[str, ...] = ()
    scope: str = SCOPE


@dataclass(eq=False)
class PushedRequest:
    """A login that has begun; ``did`` is set by the consent, with which the code's life starts."""

    client_id: str
    client_key_id: str | None
    client_key_jkt: str | None
    dpop_jkt: str
    redirect_uri: str
    scope: str
    state: str | None
    code_challenge: str
    login_hint: str | None
    expires_at: float
    did: str | None = None


@dataclass(eq=False)
class OAuthSession:
    """One DPoP-bound session. ``generation`` counts its rotations."""

    did: str
    client_id: str
    client_key_id: str | None
    client_key_jkt: str | None
    dpop_jkt: str
    scope: str
    created_at: float
    updated_at: float
    refresh_token: str
    access_token: str = ""
    generation: int = 0
    alive: bool = True
    cause: str | None = None


@dataclass(eq=False)
class AccessToken:
    """An OAuth access token; ``current`` ends with rotation where the server keeps state."""

    session: OAuthSession
    expires_at: float
    current: bool = True


@dataclass(eq=False)
class LegacySession:
    """A chain of legacy refresh tokens; ``refresh_token`` is its newest."""

    did: str
    refresh_token: str = ""
    generation: int = 0
    alive: bool = True
    cause: str | None = None


@dataclass(eq=False)
class LegacyToken:
    """A legacy JWT of either kind. ``successor`` and ``grace_until`` are set by its first use.

    ``deleted`` is set by deleteSession, and unset if a predecessor in its grace brings it back.
    """

    session: LegacySession
    kind: Literal["access", "refresh"]
    expires_at: float
    successor: str | None = None
    grace_until: float | None = None
    deleted: bool = False


@dataclass
class Counters:
    """What happened; ``consumptions_by_did`` and ``errors`` break two of the numbers down."""

    requests: int = 0
    refresh_requests: int = 0  # token endpoint, grant_type=refresh_token, any outcome
    refreshes: int = 0  # of them answered 200 by the core
    consumptions: int = 0  # refresh tokens taken by the server, whatever came of it
    replays_seen: int = 0
    sessions_killed: int = 0  # by a refused refresh; logouts and account events are not counted
    pushed_requests: int = 0
    code_requests: int = 0  # token endpoint, grant_type=authorization_code, past client authentication
    logins: int = 0  # of them answered 200 by the core
    nonce_requests: int = 0  # answers use_dpop_nonce, either server
    revocation_requests: int = 0
    revocations: int = 0
    legacy_logins: int = 0
    legacy_refresh_requests: int = 0
    legacy_refreshes: int = 0
    legacy_grace_refreshes: int = 0  # of them repeats within the grace
    legacy_deletes: int = 0
    api_calls: int = 0
    api_refusals: int = 0  # refused for the token; asking for a nonce is not counted
    records_created: int = 0
    faults: int = 0
    consumptions_by_did: Counter[str] = field(default_factory=Counter)
    api_refusals_by_did: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(
        default_factory=Counter
    )  # "400 invalid_grant: Refresh token replayed" → times


class State:
    """The servers' memory."""

    def __init__(
        self, options: Options, pds_url: str, issuer: str, now: Callable[[], float], seed: int | None
    ) -> None:
        self.options = options
        self.pds_url = pds_url
        self.issuer = issuer
        self.random = random.Random(seed) if seed is not None else random.SystemRandom()
        self.jwt_secret = self.random.randbytes(32)
        self.counters = Counters()
        self.accounts: dict[str, Account] = {}
        self.handles: dict[str, str] = {}
        self.clients: dict[str, Client] = {}
        self.oauth_sessions: list[OAuthSession] = []
        self.refresh_tokens: dict[str, OAuthSession] = {}  # used ones included: that is how a replay is seen
        self.access_tokens: dict[str, AccessToken] = {}
        self.legacy_sessions: list[LegacySession] = []
        self.legacy_tokens: dict[str, LegacyToken] = {}
        self.logins: dict[str, list[float]] = {}
        self.consent = (
            "allow"  # what people do at the authorize page: "allow", "deny", or who signs in instead
        )
        self.pushed: dict[str, PushedRequest] = {}  # by request_uri
        self.codes: dict[str, PushedRequest] = {}
        self.redeemed: dict[str, OAuthSession] = {}  # by code: that is how a replay is seen
        self.challenges_seen: set[str] = set()
        self._now = now
        self.restart()

    def restart(self) -> None:
        """Forget what a server process forgets: nonces and the proofs it has seen."""
        self.as_nonces = NonceSpace(self.random.randbytes(32))
        self.pds_nonces = NonceSpace(self.random.randbytes(32))
        self.proofs_seen = OnceOnly()
        self.assertions_seen = OnceOnly()

    @property
    def now(self) -> float:
        """The servers' time."""
        return self._now() + self.options.server_clock_offset

    @property
    def service_did(self) -> str:
        """The PDS's own DID."""
        return "did:web:" + urlsplit(self.pds_url).netloc.replace(":", "%3A")

    def nonces(self, *, authorization_server: bool) -> NonceSpace:
        """The nonce space of one of the two servers."""
        if not self.options.separate_nonces and self.issuer == self.pds_url:
            return self.as_nonces
        return self.as_nonces if authorization_server else self.pds_nonces

    def new_did(self) -> str:
        """A did:plc as the directory makes them: 24 characters of base32."""
        return "did:plc:" + base64.b32encode(self.random.randbytes(15)).decode().lower()

    def new_token(self, prefix: str) -> str:
        """An unguessable value with the reference server's kind of prefix."""
        return prefix + self.random.randbytes(32).hex()

    def lifetimes(self, session: OAuthSession) -> tuple[float, float]:
        """(idle, total) of a session, by its kind of client."""
        if session.client_key_jkt is None:
            return self.options.refresh_idle_life, self.options.session_life
        return self.options.confidential_refresh_idle_life, self.options.confidential_session_life

    def kill(self, session: OAuthSession | LegacySession, cause: str, *, refusal: bool = False) -> None:
        """End a session, its newest tokens included; ``refusal``: as the price of a wrong request."""
        if not session.alive:
            return
        session.alive, session.cause = False, cause
        self.counters.sessions_killed += refusal
        if isinstance(session, OAuthSession) and not self.options.stateless_access_tokens:
            token = self.access_tokens.get(session.access_token)
            if token is not None:
                token.current = False


def token_hash(token: str) -> str:
    """How a token is named outside: SHA-256, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
