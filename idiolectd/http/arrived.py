"""Reading what arrived of an answer, however broken the frame around it is.

For answers that can't be asked for again: the tokens of a refresh are in one answer, once. What is
read here is evidence of what was sent, and nothing else: whoever looks for tokens takes them, and
nobody takes a refusal from it.

Everything is linear in the bytes: they are a stranger's.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from idiolectd.foreign import JSON, storable_value

# The head of an answer may be longer than h11 lets one be by itself; who keeps the bytes has a cap.
_LONGEST_HEAD = 1024 * 1024

_STATUS_LINE = re.compile(rb"\S{1,16}[ \t]+([1-5]\d\d)(?!\d)")
_BEGIN = re.compile(rb"[\r\n]*")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = (b"content-length", b"transfer-encoding")

_SPACE = re.compile(r"[ \t\r\n]*")

# How many braces may stand in front of the object, in some other program's words.
_PLACES = 8

_GZIP = b"\x1f\x8b"
_CODINGS = ("gzip", "x-gzip", "deflate")
# Two boxes that pack, one after the other, are the most that anybody has seen.
_LAYERS = 3


@dataclass(frozen=True)
class Message:
    """An answer as far as it can be read.

    Attributes:
        status: as sent.
        headers: names in lower case.
        body: the content; of a broken frame all that came behind the head.
        is_whole: the frame is without a fault, and nothing is missing.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    is_whole: bool


def read_message(raw: bytes) -> Message | None:
    """What a connection brought, as an answer; None if not even its head is there."""
    found = _read_strictly(raw)
    if found is not None:
        return found
    for framing in (True, False):
        mended = _mended(raw, framing=framing)
        found = _read_strictly(mended) if mended is not None else None
        if found is not None:
            return Message(found.status, found.headers, found.body, is_whole=False)
    return None


def _read_strictly(raw: bytes) -> Message | None:
    """By h11; None if it refuses the head. Of a body that it refuses, what is left counts."""
    import h11  # a client program, which only unpacks bodies, has no use for it

    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
    parser.send(h11.Request(method="POST", target="/", headers=[("Host", "answered")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(raw)
    head: h11.Response | None = None
    body = bytearray()
    ended = False
    try:
        while not ended:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                ended = True
            elif not isinstance(event, h11.InformationalResponse):
                break  # more was needed
    except h11.RemoteProtocolError:
        pass
    if head is None:
        return None
    rest = parser.trailing_data[0]
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
    return Message(head.status_code, headers, bytes(body) + rest, is_whole=ended and not rest)


def _mended(raw: bytes, *, framing: bool) -> bytes | None:
    """The message with those lines of its head that are no header lines left out; None: there is no head.

    Args:
        raw: the message.
        framing: keep what the head says of the body's length.
    """
    at = 0
    while True:  # nothing is cut off before the end: there may be thousands of interim answers
        begin = _BEGIN.match(raw, at)
        at = begin.end() if begin else at
        status, end = _STATUS_LINE.match(raw, at), _END_OF_HEAD.search(raw, at)
        if status is None or end is None:
            return None
        if not status.group(1).startswith(b"1"):
            break
        at = end.end()  # behind an interim answer
    lines = [b"HTTP/1.1 " + status.group(1) + b" -"]
    for line in raw[at : end.start()].split(b"\n")[1:]:
        name, colon, value = (part.strip() for part in line.partition(b":"))
        if not (colon and _FIELD_NAME.fullmatch(name)) or _UNPRINTABLE.search(value):
            continue
        if framing or name.lower() not in _FRAMING:
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n" + raw[end.end() :]


def members(body: bytes) -> dict[str, Any]:
    """The members of the first JSON object in a body that are there whole.

    The object may be cut off, and other text may stand around it. A number at the very end is left
    out: it may have had more digits.
    """
    # What is not UTF-8 becomes something that counts as damaged (`text_member`), and not another text.
    text = body.decode("utf-8", "replace")
    at = -1
    for _ in range(_PLACES):
        at = text.find("{", at + 1)
        if at < 0:
            break
        found = dict(_members(text, at + 1))
        if found:
            return found
    return {}


def _members(text: str, at: int) -> Iterator[tuple[str, Any]]:
    while True:
        try:
            name, at = JSON.raw_decode(text, _after_space(text, at))
            at = _after_space(text, at)
            if not isinstance(name, str) or text[at : at + 1] != ":":
                return
            value, at = JSON.raw_decode(text, _after_space(text, at + 1))
            value = storable_value(value)
        except (ValueError, RecursionError):
            return
        if at == len(text) and not isinstance(value, str | dict | list):
            return
        yield name, value
        at = _after_space(text, at)
        if text[at : at + 1] != ",":
            return
        at += 1


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def unpacked(body: bytes, codings: str, limit: int) -> bytes:
    """A body without the gzip or deflate that some middle box may have added unasked.

    Told by its first bytes, because what a header says of it is as foreign. What can't be unpacked
    stays as it is, and is then no JSON to anybody; of a body that is cut off its beginning counts.

    Args:
        body: as it arrived.
        codings: the value of `Content-Encoding`.
        limit: a body that is longer is cut right behind that.
    """
    named = [coding.strip().lower() for coding in codings.split(",")[-_LAYERS:]]
    for _ in range(_LAYERS):
        coding = named.pop() if named else ""
        if body.lstrip().startswith(b"{"):
            break
        if coding in _CODINGS or body.startswith(_GZIP):
            body = _inflated(body, limit)
    return body


def _inflated(body: bytes, limit: int) -> bytes:
    # Its checksum comes last, and is nothing to lose a token for.
    for part in (body, body[:-8]):
        for form in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # with gzip's or zlib's head; with none
            try:
                return zlib.decompressobj(wbits=form).decompress(part, limit + 1)
            except zlib.error:
                continue
    return body
