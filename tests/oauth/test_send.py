"""The table of answers, row by row, against a strict server."""

import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from idiolectd.clock import parse_rfc3339
from idiolectd.oauth import ClientRegistry, OAuthClient, SigningKey
from idiolectd.oauth.dpop import nonce_key
from idiolectd.outcome import Ambiguous, Retry
from idiolectd.ports import Answer, Arrived, Prepared, Refused
from idiolectd.session import OAuthSession
from tests.jose import decode
from tests.oauth.support import house
from tests.parts import ISSUER, PDS
from tests.simulator import Fault, html, new_client_key, server_error

pytestmark = pytest.mark.anyio

TOKEN = "/oauth/token"
CLIENT = "https://client.test/metadata.json"


async def test_a_refresh_brings_tokens_that_work() -> None:
    """The way that it should go, three times in a row."""
    async with house(access_life=600.0) as b:
        session = b.session()
        for _ in range(3):
            b.clock.advance(400)
            answer = await b.refresh(session)
            assert isinstance(answer, Arrived)
            assert answer.mismatch is None
            assert parse_rfc3339(answer.tokens.issued_at) == b.clock.now()
            assert parse_rfc3339(answer.tokens.expires_at) == b.clock.now() + 600
            session = session.with_tokens(answer.tokens)
        assert b.sim.counters.consumptions == 3
        assert b.alive(session)


async def test_a_confidential_client_refreshes() -> None:
    """With an assertion for every attempt, the one repeated for the nonce included."""
    key = new_client_key("k1")
    clients = ClientRegistry([OAuthClient(CLIENT, {"k1": SigningKey.parse(json.dumps(key))})])
    async with house(clients) as b:
        b.sim.add_client(CLIENT, [key])
        answer = await b.refresh(b.session(client_id=CLIENT, client_key_id="k1"))
        assert isinstance(answer, Arrived)
        forms = [parse_qs(request.content.decode()) for request in b.transport.to(TOKEN)]
    assert len(forms) == 2
    jtis = {decode(form["client_assertion"][0])[1]["jti"] for form in forms}
    assert len(jtis) == 2


async def test_a_nonce_is_asked_for_once_and_shared() -> None:
    """The first session pays for the server's nonce, the next ones don't; no proof is used twice."""
    async with house() as b:
        for _ in range(3):
            assert isinstance(await b.refresh(b.session()), Arrived)
        requests = b.transport.to(TOKEN)
        jtis = {decode(request.headers["DPoP"])[1]["jti"] for request in requests}
        assert len(requests) == len(jtis) == 4


async def test_a_server_that_always_asks_for_a_nonce_is_given_up() -> None:
    """Three times more, for nodes with nonces of their own, and no further."""
    body = b'{"error":"use_dpop_nonce","error_description":"again"}'
    calls = 0

    def headers() -> list[tuple[str, str]]:
        nonlocal calls
        calls += 1
        return [("DPoP-Nonce", f"n{calls}"), ("Content-Type", "application/json")]

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.path == TOKEN:
                return httpx.Response(400, headers=headers(), content=body)
            return await inner.handle_async_request(request)

        return httpx.MockTransport(handler)

    async with house(wrap=wrap) as b:
        answer = await b.refresh(b.session())
        assert answer == Retry("use_dpop_nonce", "400 use_dpop_nonce: again")
        assert len(b.transport.to(TOKEN)) == 4


@pytest.mark.parametrize("nonce", [None, "same"])
async def test_without_a_new_nonce_nothing_is_repeated(nonce: str | None) -> None:
    """The same request would get the same answer."""
    headers = [("DPoP-Nonce", nonce)] if nonce else []
    body = b'{"error":"use_dpop_nonce"}'
    async with house() as b:
        if nonce:
            b.http.nonces.put(ISSUER, nonce)
        b.sim.faults.add(Fault("respond", TOKEN, None, status=400, headers=headers, body=body))
        assert isinstance(await b.refresh(b.session()), Retry)
        assert len(b.transport.to(TOKEN)) == 1


async def test_losing_the_second_answer_is_ambiguous() -> None:
    """After the nonce the token did go out."""
    async with house() as b:
        b.sim.faults.add(Fault("drop_after", TOKEN, skip=1))
        assert isinstance(await b.refresh(b.session()), Ambiguous)
        assert b.sim.counters.consumptions == 1


async def test_failing_to_connect_for_the_second_time_consumes_nothing() -> None:
    """What was refused for its nonce is not consumed, and the repetition never left."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("connect_error", TOKEN, skip=1))
        answer = await b.refresh(session)
        assert isinstance(answer, Retry)
        assert answer.issuer_wide
        assert b.sim.counters.consumptions == 0


def oauth_error(status: int, error: str, text: str = "", **headers: str) -> Fault:
    body = json.dumps({"error": error, "error_description": text}).encode()
    return Fault("respond", TOKEN, status=status, headers=list(headers.items()), body=body)


def is_retry(code: str, *, wide: bool = False, after: float | None = None) -> Callable[[Answer], bool]:
    return lambda a: isinstance(a, Retry) and (a.code, a.issuer_wide, a.retry_after) == (code, wide, after)


def is_a(kind: type, cause: str | None = None) -> Callable[[Answer], bool]:
    return lambda a: isinstance(a, kind) and (cause is None or getattr(a, "cause", None) == cause)


ROWS: dict[str, tuple[Fault, Callable[[Answer], bool]]] = {
    "replayed": (
        oauth_error(400, "invalid_grant", "Refresh token replayed"),
        is_a(Refused, "replayed"),
    ),
    "unknown": (
        oauth_error(400, "invalid_grant", "Invalid refresh token"),
        is_a(Refused, "refresh_token_unknown"),
    ),
    "unknown words": (oauth_error(400, "invalid_grant", "Nope"), is_a(Refused, "refused")),
    "jti reused": (
        oauth_error(400, "invalid_grant", "private_key_jwt jti reused"),
        is_retry("invalid_grant"),
    ),
    "payload": (oauth_error(400, "invalid_grant", "Invalid request payload: x"), is_retry("invalid_grant")),
    "proof": (oauth_error(401, "invalid_dpop_proof", "iat"), is_retry("invalid_dpop_proof")),
    "client": (oauth_error(400, "invalid_client", "x"), is_a(Refused, "client_refused")),
    "other": (oauth_error(400, "temporarily_odd"), is_a(Refused, "refused")),
    "429": (
        oauth_error(429, "RateLimitExceeded", **{"Retry-After": "9"}),
        is_retry("RateLimitExceeded", wide=True, after=9.0),
    ),
    "429 html": (html(429, TOKEN), is_retry("http_429", wide=True)),
    "429 final": (
        oauth_error(429, "invalid_grant", "Refresh token replayed"),
        is_retry("invalid_grant", wide=True),
    ),
    "500": (server_error(), is_retry("server_error", wide=True)),
    "500 final": (
        oauth_error(500, "invalid_grant", "Refresh token replayed"),
        is_retry("invalid_grant", wide=True),
    ),
    "503": (html(503, TOKEN), is_retry("http_503", wide=True)),
    "502": (html(502, TOKEN), is_a(Ambiguous)),
    "504": (html(504, TOKEN), is_a(Ambiguous)),
    "520": (html(520, TOKEN), is_a(Ambiguous)),
    "400 html": (html(400, TOKEN), is_retry("http_400", wide=True)),
    "401 html": (html(401, TOKEN), is_retry("http_401", wide=True)),
    "403 html": (html(403, TOKEN), is_retry("http_403", wide=True)),
    "404 html": (html(404, TOKEN), is_retry("http_404", wide=True)),
    "302": (html(302, TOKEN), is_retry("http_302", wide=True)),
    "302 final": (
        oauth_error(302, "invalid_grant", "Refresh token replayed"),
        is_retry("invalid_grant", wide=True),
    ),
    "200 html": (html(200, TOKEN), is_a(Ambiguous)),
    "200 empty": (Fault("respond", TOKEN, status=200), is_a(Ambiguous)),
    "200 list": (Fault("respond", TOKEN, status=200, body=b"[]"), is_a(Ambiguous)),
    "200 no token": (Fault("respond", TOKEN, status=200, body=b'{"access_token":""}'), is_a(Ambiguous)),
    "200 number": (Fault("respond", TOKEN, status=200, body=b'{"access_token":7}'), is_a(Ambiguous)),
    "204": (Fault("respond", TOKEN, status=204), is_a(Ambiguous)),
    "error type": (
        Fault("respond", TOKEN, status=400, body=b'{"error":{"a":1},"error_description":[]}'),
        is_retry("http_400", wide=True),
    ),
    "connect": (Fault("connect_error", TOKEN), is_retry("connect", wide=True)),
    "drop before": (Fault("drop_before", TOKEN), is_a(Ambiguous)),
    "drop after": (Fault("drop_after", TOKEN), is_a(Ambiguous)),
    "reset": (Fault("reset_after", TOKEN), is_a(Ambiguous)),
    "truncated": (Fault("truncate", TOKEN, count=40), is_a(Ambiguous)),
    "too large": (Fault("respond", TOKEN, status=200, body=b" " * 300_000), is_a(Ambiguous)),
}


@pytest.mark.parametrize(("fault", "expected"), ROWS.values(), ids=list(ROWS))
async def test_what_an_answer_means(fault: Fault, expected: Callable[[Answer], bool]) -> None:
    """One row of the table, and no row shows a token."""
    async with house() as b:
        session = b.session()
        b.http.nonces.take(ISSUER, b.sim.state.as_nonces.current(b.clock.now(), 60))
        b.sim.faults.add(fault)
        answer = await b.refresh(session)
        assert expected(answer), answer
        assert session.refresh_jwt not in repr(answer)
        assert len(b.transport.to(TOKEN)) == 1


async def test_an_endpoint_that_is_none_is_looked_up_anew() -> None:
    """A token endpoint that moved is found at the next attempt, not an hour later."""
    async with house() as b:
        b.sim.faults.add(html(404, TOKEN))
        assert isinstance(await b.refresh(b.session()), Retry)
        assert isinstance(await b.refresh(b.session()), Arrived)
        assert len(b.transport.to("/.well-known/oauth-authorization-server")) == 2


def answered(session: OAuthSession, **change: Any) -> Fault:
    body = {
        "access_token": "access-2",
        "token_type": "DPoP",
        "refresh_token": "refresh-2",
        "expires_in": 600,
        "sub": session.did,
        "scope": "atproto",
    } | change
    text = json.dumps({name: value for name, value in body.items() if value is not None})
    return Fault("respond", TOKEN, status=200, body=text.encode())


@pytest.mark.parametrize(
    ("change", "life"),
    [
        ({"expires_in": 60}, 60.0),
        ({"expires_in": 60.5}, 60.5),
        ({"expires_in": "60"}, 60.0),
        ({"expires_in": 1}, 1.0),
        ({"expires_in": 0}, 900.0),
        ({"expires_in": -5}, 900.0),
        ({"expires_in": 1e12}, 366 * 86400.0),
        ({"expires_in": 10**400}, 900.0),
        ({"expires_in": math.nan}, 900.0),
        ({"expires_in": math.inf}, 900.0),
        ({"expires_in": True}, 900.0),
        ({"expires_in": "soon"}, 900.0),
        ({"expires_in": [60]}, 900.0),
        ({"expires_in": None}, 900.0),
    ],
)
async def test_how_long_a_token_lives(change: dict[str, Any], life: float) -> None:
    """Nothing that a server may write as a lifetime costs the tokens beside it."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(session, **change))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.mismatch is None
        assert parse_rfc3339(answer.tokens.expires_at) == pytest.approx(b.clock.now() + life, abs=0.001)


async def test_half_an_answer_is_kept() -> None:
    """Without an access token the new refresh token is published all the same, to be used within a minute."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(session, access_token=None))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.mismatch is None
        assert answer.tokens.access_jwt == session.access_jwt
        assert answer.tokens.refresh_jwt != session.refresh_jwt


async def test_without_expires_in_the_jwt_tells_the_life_on_our_clock() -> None:
    """A skewed server's `exp` is not a time of ours; its difference to `iat` is a life."""
    async with house(access_life=1234.0, server_clock_offset=90_000.0) as b:
        session = b.session()
        access_token = b.session().access_jwt
        b.sim.faults.add(answered(session, expires_in=None, access_token=access_token))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert parse_rfc3339(answer.tokens.expires_at) == b.clock.now() + 1234


@pytest.mark.parametrize(
    ("change", "mismatch", "unconfirmed"),
    [
        ({"sub": "did:plc:somebodyelse"}, "sub", None),
        ({"sub": None}, None, "sub"),
        ({"sub": 7}, None, "sub"),
        ({"token_type": "Bearer"}, "token_type", None),
        ({"token_type": None}, None, "token_type"),
        ({"token_type": "dpop"}, None, None),
        ({"scope": 7}, None, None),
    ],
)
async def test_tokens_that_do_not_fit_arrive_all_the_same(
    change: dict[str, Any], mismatch: str | None, unconfirmed: str | None
) -> None:
    """They are kept first and judged afterwards."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(session, **change))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.tokens.access_jwt == "access-2"
        assert answer.tokens.refresh_jwt == "refresh-2"
        for found, expected in ((answer.mismatch, mismatch), (answer.unconfirmed, unconfirmed)):
            assert (found is None) if expected is None else (expected in (found or ""))


@pytest.mark.parametrize("refresh_token", [None, "", 7])
async def test_no_new_refresh_token_leaves_the_old_one(refresh_token: object) -> None:
    """RFC 6749, section 6."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(session, refresh_token=refresh_token))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.tokens.refresh_jwt == session.refresh_jwt


async def test_a_token_that_cant_be_stored_is_no_token() -> None:
    """JSON can hold what UTF-8 can't."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(session, access_token="\ud800", refresh_token="\ud800"))
        assert isinstance(await b.refresh(session), Ambiguous)


@pytest.mark.parametrize("offset", [-400.0, 400.0, 86_400.0])
async def test_proofs_and_assertions_are_dated_by_the_servers_clock(offset: float) -> None:
    """A host with a wrong clock keeps its sessions."""
    key = new_client_key("k1")
    clients = ClientRegistry([OAuthClient(CLIENT, {"k1": SigningKey.parse(json.dumps(key))})])
    async with house(clients, server_clock_offset=offset) as b:
        b.sim.add_client(CLIENT, [key])
        answer = await b.refresh(b.session(client_id=CLIENT))
        assert isinstance(answer, Arrived)
        assert parse_rfc3339(answer.tokens.issued_at) == b.clock.now()


async def test_the_nonce_that_is_kept_is_the_pdss() -> None:
    """Upstream's readers use it there; the authorization server's would be of no use."""
    async with house() as b:
        session = b.session()
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.tokens.dpop_nonce is None
        b.http.nonces.put(nonce_key(PDS, "token"), "pds-nonce")
        answer = await b.refresh(session.with_tokens(answer.tokens))
        assert isinstance(answer, Arrived)
        assert answer.tokens.dpop_nonce == "pds-nonce"


async def test_the_refresh_token_goes_to_the_issuer_only() -> None:
    """No other server sees it, and no proof at the issuer carries `ath`."""
    async with house() as b:
        session = b.session()
        assert isinstance(await b.refresh(session), Arrived)
        for request in b.transport.requests:
            holds_token = session.refresh_jwt.encode() in request.content
            assert holds_token == (request.url.host == "entryway.test" and request.url.path == TOKEN)
            assert "authorization" not in request.headers
        for request in b.transport.to(TOKEN):
            assert "ath" not in decode(request.headers["DPoP"])[1]


async def test_what_is_prepared_shows_no_secret() -> None:
    """Prepared requests stand in tracebacks."""
    key = new_client_key("k1")
    clients = ClientRegistry([OAuthClient(CLIENT, {"k1": SigningKey.parse(json.dumps(key))})])
    async with house(clients) as b:
        b.sim.add_client(CLIENT, [key])
        session = b.session(client_id=CLIENT)
        prepared = await b.refresher.prepare(session)
        assert isinstance(prepared, Prepared)
        shown = repr(prepared)
    for secret in (
        session.refresh_jwt,
        session.access_jwt,
        key["d"],
        json.loads(session.dpop_private_key_jwk or "")["d"],
    ):
        assert secret not in shown
