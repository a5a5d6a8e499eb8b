"""The quick way to read an answer: what it takes h11 reads alike, and the rest it leaves to h11."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.http.arrived import read_message
from idiolectd.http.plain import NotPlain, PlainAnswer, read_answer, request_bytes

BODY = b'{"access_token":"x"}'
HEAD = b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 18:24:36 GMT\r\nContent-Type: application/json\r\nDPoP-Nonce: n-1\r\n"
COUNTED = HEAD + b"Content-Length: 20\r\n\r\n" + BODY
CHUNKED = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\nf\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
)
EMPTY = b"HTTP/1.1 403 \r\nContent-Length: 0\r\n\r\n"


def read(raw: bytes) -> PlainAnswer | None:
    """What the quick way makes of it; None also where it passes."""
    try:
        return read_answer(raw)
    except NotPlain:
        return None


def assert_as_h11(raw: bytes, found: PlainAnswer) -> None:
    """h11 says the same of it."""
    other = read_message(raw)
    assert other is not None
    assert other.is_whole
    assert (found.status, found.body) == (other.status, other.body)
    assert [(name.decode(), value.decode()) for name, value in found.headers] == list(other.headers)


@pytest.mark.parametrize("raw", [COUNTED, CHUNKED, EMPTY])
def test_an_ordinary_answer_is_read(raw: bytes) -> None:
    """With a length, in chunks, or empty; before its last byte it is not there."""
    found = read_answer(raw)
    assert found is not None
    assert_as_h11(raw, found)
    assert not any(read(raw[:end]) for end in range(len(raw)))


# What is put into an answer, in the place of something.
PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b"0\r\n\r\n", b"\x00", b"\xff", b";a=b", b"1", b"f"),
    *(b"Content-Length: 20\r\n", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: y\r\n"),
    *(b"HTTP/1.0 ", b"204", b"304", b"100", b"101", b"HTTP/1.1 100 Continue\r\n\r\n"),
)


@given(
    st.sampled_from([COUNTED, CHUNKED, EMPTY]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.sampled_from(PIECES)), max_size=3),
)
def test_what_is_read_h11_reads_alike(raw: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """However the answer is broken: it is read in the same way, or left alone."""
    for at, length, piece in changes:
        raw = raw[:at] + piece + raw[at + length :]
    found = read(raw)
    if found is not None:
        assert_as_h11(raw, found)


@pytest.mark.parametrize(
    "raw",
    [
        COUNTED + b"H",
        CHUNKED + b"\r\n",
        COUNTED.replace(b"200 OK", b"204 No Content"),
        COUNTED.replace(b"HTTP/1.1", b"HTTP/1.0"),
        COUNTED.replace(b"Date: ", b"Connection: close\r\nDate: "),
        COUNTED.replace(b"Content-Length: 20", b"X: y"),
        COUNTED.replace(b"Content-Length: 20", b"Content-Length: 20\r\nTransfer-Encoding: chunked"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED,
    ],
)
def test_the_rest_is_left_alone(raw: bytes) -> None:
    """What comes behind the frame, ends with the connection, is interim or contradicts itself."""
    with pytest.raises(NotPlain):
        read_answer(raw)


@pytest.mark.parametrize("name", [b"X Y", b"", b"X\r\nY"])
@pytest.mark.parametrize("value", [b"y", b"y\r\nZ: z", b"y\x00", b" y", b"\xc3\xa4"])
def test_a_request_has_the_headers_that_it_was_given(name: bytes, value: bytes) -> None:
    """None is made of a value, and what is no header is not sent."""
    with pytest.raises(httpx.LocalProtocolError):
        request_bytes(b"POST", b"/", [(b"Host", b"pds.test"), (name, value)], b"")
    if value != b"y":
        with pytest.raises(httpx.LocalProtocolError):
            request_bytes(b"POST", b"/", [(b"Host", b"pds.test"), (b"X", value)], b"")
