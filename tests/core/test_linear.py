"""Whatever a server, a record or a person sends is worked on in time that grows with it, and no faster.

One daemon serves everybody in one thread: an algorithm that takes the square of a text's length is a way
to stop it. What is measured is a ratio, of the processor time of this thread alone: four times the text
may take four times as long, and what takes sixteen times as long is found. No second is judged.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from idiolectd.clock import parse_rfc3339
from idiolectd.did import parse_did
from idiolectd.errors import IdiolectError
from idiolectd.foreign import json_object, json_text, number, printable, storable, without
from idiolectd.http import (
    ErrorResponse,
    NetworkPolicy,
    Response,
    error_of,
    judge_refusal,
    origin,
    retry_after,
    safe_text,
)
from idiolectd.http.arrived import members, read_message
from idiolectd.http.guard import check_url
from idiolectd.http.response import http_date
from idiolectd.identity.resolve import parse_handle
from idiolectd.jose import claimed_life
from idiolectd.log import redact, redacted_traceback
from idiolectd.oauth import DpopKey
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState

_LENGTH = 16 * 1024
_TIMES = 4
_MOST = 8.0  # between four (linear) and sixteen (square)

# What took less than this can't tell its growth from noise, and stops nobody.
_NOISE = 0.05

# Beginnings of what patterns look for, and what they skip: each is repeated, so that it always begins anew
# and never ends.
_PIECES = (
    *("eyJ", "eyJ.", "eyJa.-", "sealed:", "abcd-", "abcd-abcd-abcd-", "tok-0", "access_token=", '"d":"', '"d"'),
    *("authorization", "authorization ", "authorization:", "bearer ", "dpop\t", "bearer dpop ", "://", "://a"),
    *('error="', "error=", "-----BEGIN", "-----END", "PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"),
    *("a", "-", ".", " ", '"', "'", "\\", "@", "=", "%", "%3A", ",", ":", "(", "\n", "\x1b", "\u202e", "\u0300"),
    *("HTTP/1.1 100 C\r\n\r\n", "a 100\n\n", "1\r\na\r\n", "a:b\r\n", " c\r\n", "\r\n", "a\r\n", '"a":1,', '"a":"', '{"a":{'),
    *("9", "9.", "1e", "0x", "[", "{", '{"a":', "\\ud800", "\ud800", "ü", "ü.", "a.", "xn--a.", "Mon, ", "did:web:"),
)  # fmt: skip

_POLICY = NetworkPolicy()


def _answer(text: str) -> Response:
    return Response(400, {}, json.dumps({"error": text, "message": text}).encode())


def _json(text: str) -> object:
    return Response(200, {}, text.encode("utf-8", "surrogatepass")).json_object()


def _judged(text: str) -> object:
    answer = _answer(text)
    refusal = ErrorResponse.found(answer)
    return judge_refusal("dpop", answer, refusal, now=0.0, secrets=[text[:1000], "secret"])


def _raw(before: str, text: str) -> bytes:
    return (before + text).encode("utf-8", "surrogatepass")


def _asked(text: str) -> object:
    return retry_after(Response(429, {"retry-after": text, "ratelimit-reset": text}, b""), 0.0)


def _record(text: str) -> object:
    record = {"did": "did:plc:a", "pdsUrl": text, "accessJwt": text, "refreshJwt": text, "expiresAt": text}
    return OAuthSession.from_json(json.dumps({**record, text: text}))


def _key(text: str) -> object:
    return DpopKey.from_jwk_json(json.dumps({"kty": "EC", "crv": "P-256", "d": text, "x": text, "y": text}))


_READERS: tuple[Callable[[str], object], ...] = (
    safe_text,
    lambda text: safe_text(text, [text[:3000], "eyJa.b.c"]),
    _judged,
    redact,
    lambda text: redacted_traceback(ValueError(text)),
    _json,
    lambda text: _json('{"a":' + text),
    lambda text: error_of(Response(401, {"www-authenticate": f"DPoP {text}"}, b"")),
    _asked,
    http_date,
    number,
    lambda text: origin("https://" + text),
    lambda text: check_url("https://a.example/" + text, _POLICY),
    lambda text: check_url(f"https://a:{text}", _POLICY),
    parse_handle,
    parse_did,
    parse_rfc3339,
    lambda text: parse_rfc3339(f"2026-01-01T00:00:00.{text}Z"),
    lambda text: read_message(_raw("", text)),
    lambda text: read_message(_raw("x", text * 6)),  # as much as is kept of an answer; no head for h11
    lambda text: read_message(_raw("HTTP/1.1 200 OK\r\n", text)),
    lambda text: read_message(_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", text)),
    lambda text: members(_raw("{", text)),
    lambda text: claimed_life(f"a.{text}.b"),
    _key,
    lambda text: DpopKey.from_jwk_json("-----BEGIN" + text),
    OAuthSession.from_json,
    _record,
    RefreshState.from_json,
    json_object,
    json_text,
    lambda text: printable(text + "\x1b"),
    lambda text: storable(text + "\ud800"),
    lambda text: without(text, [text]),
    lambda text: without("x" * len(text), [text]),
)


@pytest.mark.parametrize("number", range(len(_READERS)))
def test_four_times_the_text_takes_four_times_the_work(number: int) -> None:
    """None of the readers of foreign text grows faster than the text, whatever is repeated in it."""
    reader = _READERS[number]
    slow = {piece: ratio for piece in _PIECES if (ratio := _growth(reader, piece)) > _MOST}
    assert slow == {}


def test_a_square_is_found() -> None:
    """The measure itself: a reader that takes the square of a text's length does not pass."""

    def square(text: str) -> int:
        return sum(text.count("b", start) for start in range(0, len(text), 8))

    assert _growth(square, "a") > _MOST


def _growth(reader: Callable[[str], object], piece: str) -> float:
    """How many times longer a text takes that is four times as long; 0: too short to tell."""
    short, long = (piece * (length // len(piece)) + "!" for length in (_LENGTH, _LENGTH * _TIMES))
    if _seconds(reader, long) < _NOISE:
        return 0.0
    # A garbage collection, or another program's cache misses: the least of several is the reader's own.
    return min(_repeated(reader, long)) / max(min(_repeated(reader, short)), 1e-6)


def _repeated(reader: Callable[[str], object], text: str) -> Iterator[float]:
    for _ in range(3):
        yield _seconds(reader, text)


def _seconds(reader: Callable[[str], object], text: str) -> float:
    start = time.thread_time()
    with suppress(IdiolectError, ValueError):
        reader(text)
    return time.thread_time() - start
