"""Frames around an answer's body that no HTTP parser takes, or not as they were meant.

Each function makes the raw bytes of an answer from its header lines and its body. Nothing of the body
is missing (but where the name says so), so whoever looks for tokens must find them.

Does not: know what is in the body.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

# Header lines, each with its end, without any that speak of the body's length; the body.
Frame = Callable[[bytes, bytes], bytes]

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def _length(body: bytes, more: int = 0) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % (len(body) + more)


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _packed(pack: Callable[[bytes], bytes], coding: bytes | None) -> Frame:
    def frame(head: bytes, body: bytes) -> bytes:
        said = b"Content-Encoding: " + coding + b"\r\n" if coding else b""
        return _OK + head + said + _length(pack(body)) + pack(body)

    return frame


def _twice(body: bytes) -> bytes:
    return gzip.compress(gzip.compress(body))


def _as_it_is(body: bytes) -> bytes:
    return body


def _line(line: bytes) -> Frame:
    return lambda head, body: _OK + line + b"\r\n" + head + _length(body) + body


FRAMES: dict[str, Frame] = {
    "no last chunk": lambda head, body: _OK + head + _CHUNKED + _chunk(body),
    "no terminator": lambda head, body: _OK + head + _CHUNKED + _chunk(body) + b"0\r\n",
    "a chunk without its end": lambda head, body: _OK + head + _CHUNKED + _chunk(body)[:-2],
    "a chunk cut short": lambda head, body: _OK + head + _CHUNKED + b"ffff\r\n" + body,
    "chunked, and it is not": lambda head, body: _OK + head + _CHUNKED + body,
    "garbage between the chunks": lambda head, body: _OK + head + _CHUNKED + _chunk(body) + b"zz\r\n",
    "Content-Length too large": lambda head, body: _OK + head + _length(body, 9999) + body,
    "Content-Length too small": lambda head, body: _OK + head + _length(body, -40) + body,
    "two Content-Lengths": lambda head, body: (
        _OK + head + b"Content-Length: 20\r\nContent-Length: 21\r\n\r\n" + body
    ),
    "no number as Content-Length": lambda head, body: _OK + head + b"Content-Length: all\r\n\r\n" + body,
    "an unknown transfer coding": lambda head, body: _OK + head + b"Transfer-Encoding: gzip\r\n\r\n" + body,
    "text behind": lambda head, body: _OK + head + _length(body, 7) + body + b"<br />\n",
    "text before": lambda head, body: _OK + head + _length(body, 4) + b")]}'" + body,
    "a newline that was not counted": lambda head, body: _OK + head + _length(body) + body + b"\n",
    "the last byte missing": lambda head, body: _OK + head + _length(body) + body[:-1],
    "a line that is no header": _line(b"Warning from the proxy"),
    "a space in a header's name": _line(b"X Proxy: a"),
    "a control character in a header": _line(b"X: a\x01b"),
    "a folded first line": _line(b"  folded: a"),
    "a head above the limit": _line(b"A: " + b"x" * 110_000),
    "a status line of another protocol": lambda head, body: b"ICY 200 fine\r\n" + head + _length(body) + body,
    "HTTP/2 spelled out": lambda head, body: b"HTTP/2 200\r\n" + head + _length(body) + body,
    "a broken head behind an interim one": lambda head, body: (
        b"HTTP/1.1 103 Hint\r\n\r\n" + _OK + b"a\r\n" + head + _length(body) + body
    ),
    "a broken head and chunks": lambda head, body: (
        _OK + b"no header\r\n" + head + _CHUNKED + _chunk(body) + b"0\r\n\r\n"
    ),
    "gzip": _packed(gzip.compress, b"gzip"),
    "gzip cut off": _packed(lambda body: gzip.compress(body)[:-6], b"gzip"),
    "gzip with a wrong checksum": _packed(lambda body: gzip.compress(body)[:-8] + b"checksum", b"gzip"),
    "gzip twice": _packed(_twice, b"gzip, gzip"),
    "gzip twice, said once": _packed(_twice, b"gzip"),
    "gzip under another name": _packed(gzip.compress, b"compressed"),
    "gzip without a name": _packed(gzip.compress, None),
    "deflate": _packed(zlib.compress, b"deflate"),
    "deflate without its head": _packed(lambda body: zlib.compress(body)[2:-4], b"deflate"),
    "deflate, and it is not": _packed(_as_it_is, b"deflate"),
    "br, and it is not": _packed(_as_it_is, b"br"),
    "zstd, and it is not": _packed(_as_it_is, b"zstd"),
    "a coding that nobody knows": _packed(_as_it_is, b"x-own"),
}
