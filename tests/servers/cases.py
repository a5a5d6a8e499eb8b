"""The table: what servers do, what must become of a session, and what it may cost.

A case that is not in here is not promised. `Fate` says what the server's own doing leaves us: after
`LOST` nobody holds the newest token, and all that can be asked is to find that out and to say so.
"""

import gzip
import json
from dataclasses import dataclass
from enum import Enum

import httpx

from idiolectd.session import Kind
from tests.parts import ISSUER, PDS
from tests.servers import misbehaviour as m
from tests.servers.misbehaviour import Act, Where, at_issuer_metadata, at_pds_metadata, at_refresh

HOUR, DAY = 3600.0, 86_400.0

# Of an access token, unless the server says otherwise.
LIFE = HOUR / 4


class Fate(Enum):
    """What becomes of a session."""

    LIVES = "lives"  # refreshed again as soon as the server is well
    LOST = "response lost"  # the server rotated, and the new token never reached us whole
    KEPT = "kept for a person"  # tokens that don't fit: kept, not used, said so
    ENDS = "ended by the server"  # it takes neither the old token nor gives a new one


@dataclass(frozen=True)
class Case:
    """One kind of misbehaviour.

    Attributes:
        name: for the table.
        act: what happens.
        where: to which requests.
        kinds: of sessions it concerns.
        fates: what must become of a session of either kind.
        states: the states that it may be in meanwhile; empty: any.
        lasts: seconds.
        sessions: how many of them.
        recovery: seconds after which all must be well again.
        pause: a session that was refused is not sent again for so long.
        factor: how many requests one attempt may make with a refresh token.
        life: what the server makes us believe of its tokens' life: that often they may be refreshed.
        deaf: the server lies about its tokens' life, so they may have ended unnoticed.
        no_token: no refresh token may be sent at all meanwhile.
        unpinned: the records don't say who issued them.
    """

    name: str
    act: Act
    where: Where = at_refresh
    kinds: tuple[Kind, ...] = ("dpop", "bearer")
    fates: tuple[Fate, Fate] = (Fate.LIVES, Fate.LIVES)
    states: frozenset[str] = frozenset()
    lasts: float = HOUR / 2
    recovery: float = 900.0
    sessions: int = 2
    pause: float = 0.0
    factor: int = 1
    life: float = LIFE
    deaf: bool = False
    no_token: bool = False
    unpinned: bool = False

    def fate(self, kind: Kind) -> Fate:
        """What must become of a session of a kind."""
        return self.fates[0 if kind == "dpop" else 1]


RETRYING = frozenset({"retrying"})
UNCLEAR = frozenset({"ambiguous", "retrying"})
OAUTH: tuple[Kind, ...] = ("dpop",)
# A legacy server gives the same next token again for two hours: nothing that happens once is lost.
LOST_ONCE = (Fate.LOST, Fate.LIVES)


def _rate_limits() -> list[Case]:
    return [
        Case(f"429, {name}", m.limited(how, 600), states=RETRYING, pause=600, lasts=HOUR, recovery=1500)
        for how, name in (
            ("seconds", "Retry-After in seconds"),
            ("date", "Retry-After as a date"),
            ("reset", "ratelimit-reset"),
        )
    ] + [
        Case("429 without a wish", m.says(429), states=RETRYING),
        Case(
            "503, Retry-After: 600",
            m.says(503, retry_after="600"),
            states=RETRYING,
            pause=600,
            lasts=HOUR,
            recovery=1500,
        ),
    ]


def _outages() -> list[Case]:
    two_days = [
        Case("503 for two days", m.page(503), states=RETRYING, lasts=2 * DAY, sessions=1),
        Case(
            "500 for two days",
            m.says(500, {"error": "server_error"}),
            states=RETRYING,
            lasts=2 * DAY,
            sessions=1,
        ),
        Case("502 for two days", m.page(502), states=UNCLEAR, lasts=2 * DAY, sessions=1),
        Case(
            "no connection for two days",
            m.breaks(httpx.ConnectError),
            m.anywhere,
            states=RETRYING,
            lasts=2 * DAY,
            sessions=1,
        ),
    ]
    shorter = [
        Case("504", m.page(504), states=UNCLEAR),
        Case("no connection in time", m.breaks(httpx.ConnectTimeout), m.anywhere, states=RETRYING),
        Case("cut before it acts", m.breaks(httpx.RemoteProtocolError), states=UNCLEAR),
        Case("no answer in time, not acted", m.breaks(httpx.ReadTimeout), states=UNCLEAR),
        Case("acts, 502", m.swallowed(m.page(502)), fates=LOST_ONCE),
        Case("acts, then cut", m.swallowed(m.breaks(httpx.RemoteProtocolError)), fates=LOST_ONCE),
        Case("acts, then reset", m.swallowed(m.breaks(httpx.ReadError)), fates=LOST_ONCE),
    ]
    return two_days + shorter


def _strange_answers() -> list[Case]:
    return [
        Case("200 with HTML", m.page(200), states=UNCLEAR),
        Case("200 with HTML, acted", m.swallowed(m.page(200)), fates=LOST_ONCE),
        Case("200, empty", m.says(200), states=UNCLEAR),
        Case("200, null", m.says(200, b"null"), states=UNCLEAR),
        Case("200, {}", m.says(200, {}), states=UNCLEAR),
        Case(
            "200, tokens are numbers",
            m.says(200, {"access_token": 1, "refresh_token": 2, "accessJwt": 1}),
            states=UNCLEAR,
        ),
        Case("204", m.says(204), states=UNCLEAR),
        Case("200, half of the JSON, acted", m.instead(lambda body: body[: len(body) // 2]), fates=LOST_ONCE),
        Case(
            "200, text behind the JSON", m.instead(lambda body: body + b"<br />"), states=frozenset({"fresh"})
        ),
        Case(
            "200, text before the JSON", m.instead(lambda body: b")]}'" + body), states=frozenset({"fresh"})
        ),
        Case("200 without its last byte", m.instead(lambda body: body[:-1]), states=frozenset({"fresh"})),
        Case(
            "200, packed twice",
            m.instead(lambda body: gzip.compress(gzip.compress(body)), content_encoding="gzip"),
            states=frozenset({"fresh"}),
        ),
        Case("200 with a byte order mark", m.instead(lambda body: b"\xef\xbb\xbf" + body)),
        Case("200 in UTF-16, acted", m.instead(lambda body: body.decode().encode("utf-16")), fates=LOST_ONCE),
        Case("200, said to be HTML, is JSON", m.instead(lambda body: body, content_type="text/html")),
        Case("201", m.instead(lambda body: body, status=201)),
        Case("endless body", m.streams(b'{"access_token":"', b"x" * 16_384), states=UNCLEAR),
        Case("endless body, acted", m.swallowed(m.streams(b'{"a":"', b"x" * 16_384)), fates=LOST_ONCE),
        Case("slow drip", m.streams(b'{"access_token":"', b"x", pause=1.0), states=UNCLEAR),
        Case("slow drip, acted", m.swallowed(m.streams(b"{", b" ", pause=1.0)), fates=LOST_ONCE),
        Case("gzip bomb", m.says(200, m.bomb(64 << 20), content_encoding="gzip"), states=UNCLEAR),
    ]


# What no server should say of a token's life.
_NONSENSE: tuple[object, ...] = (0, -1, -1e308, "900", "soon", True, [], {}, 1e400)


def _bent_tokens() -> list[Case]:
    lives = [
        Case(
            f"expires_in: {json.dumps(value)}",
            m.bends(expires_in=value),
            kinds=OAUTH,
            states=frozenset({"fresh"}),
        )
        for value in _NONSENSE
    ] + [
        Case(
            "expires_in: 0.001", m.bends(expires_in=0.001), kinds=OAUTH, states=frozenset({"fresh"}), life=10
        ),
        Case(
            "expires_in: 10^12",
            m.bends(expires_in=10**12),
            kinds=OAUTH,
            states=frozenset({"fresh"}),
            deaf=True,
        ),
        Case("expires_in missing", m.bends(expires_in=None), kinds=OAUTH, states=frozenset({"fresh"})),
        Case("scope is a list", m.bends(scope=["atproto"]), states=frozenset({"fresh"})),
        Case(
            "a member too many",
            m.bends(refresh_token_expires_in=1, id_token="x"),
            states=frozenset({"fresh"}),
        ),
    ]
    others = "did:plc:someoneelse23456someone2"
    misfits = [
        Case("another sub", m.bends(sub=others), fates=(Fate.KEPT, Fate.KEPT)),
        # Not another's: the PDS says whose they are.
        Case("sub missing", m.bends(sub=None), states=frozenset({"fresh"})),
        Case("token_type Bearer", m.bends(token_type="Bearer"), kinds=OAUTH, fates=(Fate.KEPT, Fate.KEPT)),
        Case("token_type missing", m.bends(token_type=None), kinds=OAUTH, states=frozenset({"fresh"})),
    ]
    halves = [
        # The old one is all that we have, and the server has rotated it: the next refresh ends it.
        Case("refresh_token missing, rotated", m.bends(refresh_token=None), fates=(Fate.ENDS, Fate.LIVES)),
        Case("access_token missing", m.bends(access_token=None), life=60),
        Case("refresh_token is empty, rotated", m.bends(refresh_token=""), fates=(Fate.ENDS, Fate.LIVES)),
    ]
    return lives + misfits + halves


def _refusals() -> list[Case]:
    def oauth(status: int, error: str, text: str) -> Act:
        return m.says(status, {"error": error, "error_description": text, "message": text})

    return [
        Case("a nonce that is never accepted", m.wants_nonces(), kinds=OAUTH, states=RETRYING, factor=4),
        Case("use_dpop_nonce without a nonce", oauth(400, "use_dpop_nonce", "nonce"), states=RETRYING),
        *(
            Case(f"{status} to another host", m.redirects(status), states=RETRYING)
            for status in (301, 302, 303, 307, 308)
        ),
        *(
            Case(f"{status} with HTML", m.page(status), states=RETRYING)
            for status in (400, 401, 403, 404, 418)
        ),
        Case("400, error is a list", m.says(400, {"error": ["invalid_grant"]}), states=RETRYING),
        Case("400, invalid_grant in HTML", m.says(400, b"<p>invalid_grant"), states=RETRYING),
        Case("invalid_dpop_proof", oauth(401, "invalid_dpop_proof", "iat"), kinds=OAUTH, states=RETRYING),
        Case(
            "assertion reused",
            oauth(400, "invalid_grant", "private_key_jwt jti reused"),
            kinds=OAUTH,
            states=RETRYING,
        ),
        Case(
            "invalid_client",
            oauth(400, "invalid_client", "no"),
            kinds=OAUTH,
            states=frozenset({"suspended"}),
            recovery=4000,
        ),
        Case(
            "account taken down",
            oauth(401, "AccountTakedown", "no"),
            kinds=("bearer",),
            states=frozenset({"suspended"}),
            recovery=4000,
        ),
        Case("101", m.says(101), states=RETRYING),
        Case("status 999", m.says(999), states=UNCLEAR),
    ]


def _metadata() -> list[Case]:
    good = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/oauth/token"}
    acts = {
        "of another issuer": m.says(200, good | {"issuer": m.ELSEWHERE}),
        "of the issuer with a slash": m.says(200, good | {"issuer": f"{ISSUER}/"}),
        "without an issuer": m.says(200, {"token_endpoint": f"{ISSUER}/oauth/token"}),
        "without a token endpoint": m.says(200, {"issuer": ISSUER}),
        "token endpoint over plain http": m.says(
            200, good | {"token_endpoint": "http://entryway.test/token"}
        ),
        "token endpoint is a file": m.says(200, good | {"token_endpoint": "file:///etc/passwd"}),
        "token endpoint is a list": m.says(200, good | {"token_endpoint": [f"{ISSUER}/oauth/token"]}),
        "is HTML": m.page(200),
        "is a list": m.says(200, b"[]"),
        "404": m.says(404),
        "503": m.page(503),
        "moved to another host": m.redirects(301),
        "endless": m.streams(b'{"issuer":"', b"x" * 16_384),
        "slow drip": m.streams(b'{"issuer":"', b"x", pause=1.0),
        "429, Retry-After: 600": m.limited("seconds", 600),
    }
    metadata = [
        Case(
            f"metadata {name}",
            act,
            at_issuer_metadata,
            OAUTH,
            states=RETRYING,
            no_token=True,
            lasts=HOUR,
            recovery=1500,
        )
        for name, act in acts.items()
    ]
    pds = {
        "names another issuer": (
            m.says(200, {"resource": PDS, "authorization_servers": [m.ELSEWHERE]}),
            "suspended",
        ),
        "is another PDS's": (
            m.says(200, {"resource": m.ELSEWHERE, "authorization_servers": [ISSUER]}),
            "retrying",
        ),
        "names no issuer": (m.says(200, {"resource": PDS, "authorization_servers": []}), "retrying"),
        "names an issuer with a path": (
            m.says(200, {"resource": PDS, "authorization_servers": [f"{ISSUER}/x"]}),
            "retrying",
        ),
        "is HTML": (m.page(200), "retrying"),
    }
    return metadata + [
        Case(
            f"PDS metadata {name}",
            act,
            at_pds_metadata,
            OAUTH,
            states=frozenset({state}),
            no_token=True,
            unpinned=True,
            recovery=4000,
        )
        for name, (act, state) in pds.items()
    ]


CASES = [*_rate_limits(), *_outages(), *_strange_answers(), *_bent_tokens(), *_refusals(), *_metadata()]
