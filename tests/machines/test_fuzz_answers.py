"""Whatever a server answers: one of the documented outcomes, storable tokens, and never a secret in a message."""

import json
import math
from typing import Any, get_args

import anyio
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idiolectd.clock import parse_rfc3339
from idiolectd.http import ErrorResponse, HttpClient, NetworkPolicy, Response, judge_refusal, retry_after
from idiolectd.oauth import AuthorizationServer, Discovery
from idiolectd.oauth.token_endpoint import read_answer
from idiolectd.outcome import Ambiguous, Retry
from idiolectd.ports import Answer, Arrived
from idiolectd.session import OAuthSession
from idiolectd.xrpc.tokens import read_tokens
from tests.clock import VirtualClock
from tests.machines.profiles import runs
from tests.machines.test_fuzz_records import SECRET, values
from tests.store.support import NOW, session
from tests.support import Recorder

ISSUER = "https://issuer.test"
SENT = session(access_jwt=f"old-access-{SECRET}", refresh_jwt=f"old-refresh-{SECRET}")

GOOD = {
    "access_token": "new-access",
    "refresh_token": "new-refresh",
    "token_type": "DPoP",
    "expires_in": 3600,
    "scope": "atproto",
    "sub": SENT.did,
}
GOOD_LEGACY = {
    "accessJwt": "a.eyJpYXQiOjAsImV4cCI6NzIwMH0.c",
    "refreshJwt": "new",
    "did": SENT.did,
    "handle": "h.test",
}
REFUSAL = {
    "error": "invalid_grant",
    "error_description": f"no {SENT.refresh_jwt}",
    "message": SENT.access_jwt,
}

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 10**400, 1e308, "3600", "1e999", "NaN", "٣٦٠٠", True, None]),
)
header_names = st.sampled_from(
    ["retry-after", "ratelimit-reset", "date", "dpop-nonce", "content-type", "www-authenticate"]
)
header_values = st.one_of(
    numbers.map(str),
    st.text(max_size=30),
    st.sampled_from(
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 01 Jan 0001 00:00:00 +1400",
            "Fri, 31 Dec 9999 23:59:59 -1400",
            "0",
        ]
    ),
)


def bent(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """The good answer with some members replaced or gone, whole or cut; or noise."""
    changed = st.dictionaries(
        st.sampled_from([*good, "error"]) | st.text(max_size=5), values | numbers, max_size=3
    )
    whole = st.builds(
        lambda changes, gone: json.dumps(
            {k: v for k, v in (good | changes).items() if k not in gone}
        ).encode(),
        changed,
        st.sets(st.sampled_from(list(good)), max_size=2),
    )
    return st.one_of(
        whole, st.builds(lambda text, cut: text[:cut], whole, st.integers(0, 300)), st.binary(max_size=200)
    )


def answers(good: dict[str, Any]) -> st.SearchStrategy[Response]:
    """An answer with any status, headers and body."""
    return st.builds(
        Response,
        status=st.one_of(st.sampled_from([200, 200, 200, 400, 401, 429, 500, 503]), st.integers(100, 999)),
        headers=st.dictionaries(header_names, header_values, max_size=3),
        body=st.one_of(bent(good), bent(REFUSAL)),
        date=st.one_of(st.none(), st.floats(0, 2e10)),
    )


@given(response=answers(GOOD))
@example(response=Response(200, {}, json.dumps(GOOD | {"expires_in": 10**400}).encode()))
@example(response=Response(200, {}, json.dumps(GOOD | {"expires_in": "1" * 4999}).encode()))
@example(response=Response(200, {}, b'{"access_token":"\\ud800","refresh_token":"x"}'))
@example(response=Response(200, {}, b"[" * 100_000))
@example(response=Response(400, {}, json.dumps(REFUSAL).encode()))
@example(
    response=Response(
        200, {}, json.dumps(GOOD | {"access_token": "a.eyJpYXQiOjAsImV4cCI6MjUzNDAyMzAwNzk5fQ.c"}).encode()
    )
)
@runs(500)
def test_the_token_endpoints_answer(response: Response) -> None:
    """Any answer is one of the outcomes; tokens in it are never thrown away and can be stored."""
    answer = read_answer(response, SENT, sent_at=NOW, now=NOW)
    assert isinstance(answer, get_args(Answer))
    if not isinstance(answer, Arrived):
        # What the server makes up itself may be shown; what was sent to it may not.
        assert not any(sent in repr(answer) for sent in (SENT.access_jwt, SENT.refresh_jwt))
        body = response.json_object() or {}
        storable = isinstance(body.get("refresh_token"), str) and body["refresh_token"].isascii()
        if 200 <= response.status < 300 and storable and body["refresh_token"]:
            pytest.fail("a refresh token was thrown away")
        if 200 <= response.status < 300:
            # An error in words is an answer; without any nobody knows what became of the token.
            says = isinstance(body.get("error"), str) or "www-authenticate" in response.headers
            assert isinstance(answer, Ambiguous) or says
        return
    _is_storable(SENT.with_tokens(answer.tokens))
    life = (parse_rfc3339(answer.tokens.expires_at) or math.nan) - NOW
    assert 0 <= life <= 366 * 86_400
    body = response.json_object() or {}
    if answer.mismatch is None and answer.unconfirmed is None:
        assert body.get("sub") == SENT.did
        assert str(body.get("token_type")).lower() == "dpop"


@given(response=answers(GOOD_LEGACY))
@example(
    response=Response(
        200, {}, json.dumps(GOOD_LEGACY | {"accessJwt": "a.eyJpYXQiOjAsImV4cCI6MWUzMDB9.c"}).encode()
    )
)
@runs(300)
def test_the_legacy_answer(response: Response) -> None:
    """Any answer gives both tokens, storable, or nothing."""
    answer = read_tokens(response, sent_at=NOW)
    if answer is None:
        return
    _is_storable(SENT.with_tokens(answer.tokens))
    assert (parse_rfc3339(answer.tokens.expires_at) or 0) > NOW


@given(kind=st.sampled_from(["dpop", "bearer"]), response=answers(REFUSAL))
@runs(300)
def test_a_refusal_is_judged_without_repeating_secrets(kind: Any, response: Response) -> None:
    """Whatever is refused in whatever words: an outcome whose text holds none of what was sent."""
    refusal = ErrorResponse.found(response)
    secrets = (SENT.access_jwt, SENT.refresh_jwt)
    answer = judge_refusal(kind, response, refusal, now=NOW, secrets=secrets)
    assert SENT.refresh_jwt not in repr(answer)
    assert SENT.access_jwt not in repr(answer)
    assert all(char.isprintable() for char in answer.message)
    if isinstance(answer, Retry) and answer.retry_after is not None:
        assert 0 <= answer.retry_after <= 86_400


@given(response=answers(GOOD), now=st.floats(0, 1e11))
@runs(200)
def test_a_wish_is_a_sane_number(response: Response, now: float) -> None:
    """`Retry-After` and its kin give between 0 and a day, or nothing."""
    wish = retry_after(response, now)
    assert wish is None or 0 <= wish <= 86_400


METADATA = {
    "issuer": ISSUER,
    "token_endpoint": f"{ISSUER}/token",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "resource": "https://pds.test",
    "authorization_servers": [ISSUER],
}
urls = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "http://issuer.test/",
            "https://issuer.test:99999/x",
            "https://[::1",
            "https://u:p@issuer.test",
            "https://xn--/",
            "//x",
            "https://\0",
        ]
    ),
)


@given(
    document=st.one_of(
        bent(METADATA),
        st.builds(
            lambda changes: json.dumps(METADATA | changes).encode(),
            st.dictionaries(
                st.sampled_from(list(METADATA)), urls | values | st.lists(urls, max_size=2), max_size=2
            ),
        ),
    ),
    status=st.sampled_from([200, 200, 200, 301, 404, 500]),
)
@runs(200)
def test_metadata_is_a_server_or_a_reason_to_wait(document: bytes, status: int) -> None:
    """What an issuer or a PDS says of itself is used if it fits, else it is a `Retry`; never an exception."""

    def serve(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=_Body(document))

    async def look_up() -> None:
        transport = httpx.MockTransport(serve)
        async with HttpClient(
            policy=NetworkPolicy(), clock=VirtualClock(), events=Recorder(), transport=transport
        ) as http:
            discovery = Discovery(http, VirtualClock())
            server = await discovery.server(ISSUER)
            assert isinstance(server, AuthorizationServer | Retry)
            if isinstance(server, AuthorizationServer):
                assert server.issuer == ISSUER
                assert server.token_endpoint.scheme == "https"
                assert status == 200
            issuer = await discovery.issuer_of_pds("https://pds.test")
            assert isinstance(issuer, str | Retry)
            assert isinstance(issuer, Retry) or issuer.startswith("https://")

    anyio.run(look_up)


class _Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> Any:
        yield self._content


def _is_storable(found: OAuthSession) -> None:
    assert OAuthSession.from_json(found.to_json().encode()) == found
