"""Writes a request, and reads an answer, in the plain form that they nearly always have.

h11 knows all of RFC 9112, and takes each line of a head apart by several patterns: as much work as the rest
of an exchange together. An answer that is a status line, header fields of one line each, and a body whose
length is given or that comes in plain chunks, is read here by one pattern. Whatever is not that
(`NotPlain`) h11 has to read, from the first byte on; what is that, h11 reads in the same way.

Knows bytes only: no streams, no waiting.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

Headers = Sequence[tuple[bytes, bytes]]

_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Visible ASCII with single words between spaces: what every reader understands alike.
_VALUE = rb"[!-~]++(?: ++[!-~]++)*+"

_REQUEST_HEAD = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n(?:" + _NAME + rb": (?:" + _VALUE + rb")?\r\n)++\r\n"
)
_ANSWER_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) (?:"
    + _VALUE
    + rb")?\r\n((?:"
    + _NAME
    + rb": ?(?:"
    + _VALUE
    + rb")?\r\n)*+)\r\n"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGUN_CHUNK = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_LENGTH = re.compile(rb"[0-9]{1,9}")

_END_OF_HEAD = b"\r\n\r\n"

# These have no body, whatever their head says.
_BODILESS = (b"204", b"304")

# A head that is longer has not much to do with what is spoken here.
_LONGEST_HEAD = 16 * 1024


class NotPlain(Exception):
    """The answer has another form, or is broken: h11 knows."""


@dataclass(frozen=True)
class PlainAnswer:
    """A whole answer, behind which nothing came and after which the connection stays open."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


def request_bytes(method: bytes, target: bytes, headers: Headers, body: bytes) -> bytes:
    """A request as it is sent.

    Raises:
        httpx.LocalProtocolError: it can't be.
    """
    fields = b"".join([b"%b: %b\r\n" % each for each in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, fields)
    lines = len(headers) + 2  # more: a value holds a line of its own
    if _REQUEST_HEAD.fullmatch(head) is None or head.count(b"\r\n") != lines:
        raise httpx.LocalProtocolError("not a request that can be sent")
    return head + body


def read_answer(raw: bytes) -> PlainAnswer | None:
    """The answer to a GET or POST; None: more of its body has to come.

    Raises:
        NotPlain: h11 has to read it.
    """
    end = raw.find(_END_OF_HEAD, 0, _LONGEST_HEAD)
    begin = end + len(_END_OF_HEAD)
    head = _ANSWER_HEAD.fullmatch(raw, 0, begin) if end >= 0 else None
    if head is None or head[1] in _BODILESS:
        raise NotPlain
    headers = []
    length: int | None = None
    for line in head[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.lstrip(b" ")
        headers.append((name, value))
        if name == b"content-length":
            if length is not None or _LENGTH.fullmatch(value) is None:
                raise NotPlain
            length = int(value)
        elif name == b"transfer-encoding":
            if length is not None or value.lower() != b"chunked":
                raise NotPlain
            length = -1
        elif name == b"connection" and value.lower() != b"keep-alive":
            raise NotPlain
    if length is None:
        raise NotPlain
    body = _chunks(raw, begin) if length < 0 else _counted(raw, begin, length)
    return None if body is None else PlainAnswer(int(head[1]), headers, body)


def _counted(raw: bytes, begin: int, length: int) -> bytes | None:
    if len(raw) > begin + length:
        raise NotPlain
    return raw[begin:] if len(raw) == begin + length else None


def _chunks(raw: bytes, at: int) -> bytes | None:
    body = b""
    while (size := _CHUNK.match(raw, at)) is not None:
        at = size.end()
        length = int(size[1], 16)
        end = at + length
        rest = raw[end:] if not length else raw[end : end + 2]  # no trailers, and nothing behind
        if not b"\r\n".startswith(rest):
            raise NotPlain
        if len(rest) < 2:
            return None
        if not length:
            return body
        body += raw[at:end]
        at = end + 2
    if _BEGUN_CHUNK.fullmatch(raw, at) is None:
        raise NotPlain
    return None
