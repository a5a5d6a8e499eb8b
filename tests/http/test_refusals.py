"""Which answers can speak of a token, and which say nothing of it."""

import pytest

from idiolectd.http import Response, judge_probe, judge_refusal
from idiolectd.http.error_response import ErrorResponse
from idiolectd.ports import AccessTokenStatus, Refused
from idiolectd.session import Kind
from tests.simulator.words import CLIENT, DEAD, PASSING, Words

DID = "did:plc:abc"


def response(words: Words) -> Response:
    fault = words.fault(None)
    return Response(words.status, {name.lower(): value for name, value in fault.headers}, fault.body)


def judged(kind: Kind, answer: Response) -> object:
    return judge_refusal(kind, answer, ErrorResponse.found(answer), now=0.0, secrets=())


@pytest.mark.parametrize("words", [*DEAD, *CLIENT], ids=lambda words: words.name)
def test_what_an_application_refuses_is_heard(words: Words) -> None:
    """In whatever words and places, and with the words kept."""
    for kind in words.kinds:
        answer = judged(kind, response(words))
        assert isinstance(answer, Refused)
        assert str(words.status) in answer.message


@pytest.mark.parametrize("words", PASSING, ids=lambda words: words.name)
def test_what_says_nothing_of_the_session_is_no_refusal(words: Words) -> None:
    """Pages, nothing at all, servers in trouble, limits, redirects, nonces and proofs."""
    for kind in words.kinds:
        assert not isinstance(judged(kind, response(words)), Refused)


def test_a_challenge_says_what_a_bare_401_means() -> None:
    """A refused proof beside a plain text is a refused proof (RFC 9449, section 7.1)."""
    headers = {"content-type": "text/plain", "www-authenticate": 'DPoP error="invalid_dpop_proof"'}
    assert not isinstance(judged("dpop", Response(401, headers, b"Unauthorized")), Refused)


def test_a_token_in_plain_text_is_not_repeated() -> None:
    """However far behind the text it stands."""
    token = "ref-" + "0" * 300
    answer = Response(401, {"content-type": "text/plain"}, b"x" * 150 + token.encode())
    found = judge_refusal("dpop", answer, ErrorResponse.found(answer), now=0.0, secrets=[token])
    assert "ref-" not in repr(found)


@pytest.mark.parametrize(
    ("status", "headers", "body", "taken"),
    [
        (200, {}, b'{"did":"did:plc:abc"}', AccessTokenStatus.ACCEPTED),
        (401, {}, b'{"error":"invalid_token"}', AccessTokenStatus.REFUSED),
        (
            400,
            {},
            b'{"error":"ExpiredToken","message":"Token has expired"}',
            AccessTokenStatus.REFUSED,
        ),  # reference, legacy
        (401, {}, b'{"error":"InvalidToken"}', AccessTokenStatus.REFUSED),
        (401, {"content-type": "text/plain"}, b"revoked token", AccessTokenStatus.REFUSED),  # millipds
        (401, {"content-type": "text/plain"}, b"", AccessTokenStatus.UNKNOWN),
        (401, {"content-type": "text/plain"}, b"<html>", AccessTokenStatus.UNKNOWN),
        (401, {"content-type": "text/html"}, b"revoked token", AccessTokenStatus.UNKNOWN),
        (403, {"content-type": "text/plain"}, b"revoked token", AccessTokenStatus.UNKNOWN),
        (401, {}, b'{"error":"AccountTakedown"}', AccessTokenStatus.UNKNOWN),
        (503, {}, b'{"error":"ExpiredToken"}', AccessTokenStatus.UNKNOWN),
    ],
)
def test_what_a_pds_says_of_an_access_token(
    status: int, headers: dict[str, str], body: bytes, taken: AccessTokenStatus
) -> None:
    """Only words about the token itself are a no."""
    assert judge_probe(Response(status, headers, body), DID).status is taken
