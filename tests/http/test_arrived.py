"""What arrived of an answer is read, however broken the frame around it is."""

import gzip
import json

import anyio
import pytest
from anyio.abc import SocketStream

from idiolectd.errors import Unclear
from idiolectd.http import CutOff, HttpClient
from idiolectd.http.arrived import members, unpacked
from idiolectd.http.http_client import MAX_BODY
from tests.http.support import Handler, answering, house, listening, read_request
from tests.simulator.frames import FRAMES

pytestmark = pytest.mark.anyio

TOKENS = {"access_token": "NEW-a", "token_type": "DPoP", "refresh_token": "NEW-r", "expires_in": 3600}
JSON = json.dumps(TOKENS).encode()
ANSWERS = {name: frame(b"", JSON) for name, frame in FRAMES.items()}


def then_closed(frame: bytes) -> Handler:
    return answering(frame)


def then_silent(frame: bytes) -> Handler:
    async def handler(stream: SocketStream) -> None:
        await read_request(stream)
        for at in range(0, len(frame), max(1, len(frame) // 3)):  # in several pieces
            await stream.send(frame[at : at + max(1, len(frame) // 3)])
        await anyio.sleep_forever()

    return handler


async def find(client: HttpClient, handler: Handler, *, deadline: float = 5.0) -> tuple[int, object]:
    """Status and refresh token of what arrived."""
    async with listening(handler) as url:
        try:
            response = await client.request("POST", url, deadline=deadline)
        except CutOff as error:
            response = error.response
    return response.status, response.members().get("refresh_token")


async def test_tokens_arrive_in_every_broken_frame() -> None:
    """Whatever is wrong with the frame: the tokens that came are found."""
    async with house() as w:
        found = {name: await find(w.client, then_closed(frame)) for name, frame in ANSWERS.items()}
    assert found == dict.fromkeys(FRAMES, (200, "NEW-r"))


async def test_tokens_arrive_although_the_end_never_comes() -> None:
    """A server that keeps the connection and says no more does not take back what it said."""
    frames = ("no last chunk", "Content-Length too large", "a line that is no header")
    found: dict[str, tuple[int, object]] = {}

    async def one(name: str) -> None:
        found[name] = await find(w.client, then_silent(ANSWERS[name]), deadline=0.2)

    async with house() as w, anyio.create_task_group() as tasks:
        for name in frames:
            tasks.start_soon(one, name)
    assert found == dict.fromkeys(frames, (200, "NEW-r"))


async def test_a_part_of_an_answer_is_no_answer() -> None:
    """A refusal whose frame is broken is not returned as one; nor is a part of any other answer."""
    refusal = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"error": "invalid_grant"}'
    async with listening(answering(refusal)) as url, house() as w:
        with pytest.raises(Unclear) as caught:
            await w.client.request("POST", url)
        with pytest.raises(Unclear):
            await w.client.request("GET", url)
    assert isinstance(caught.value, CutOff)
    assert caught.value.response.status == 400


async def test_what_came_too_much_is_no_part_of_the_next_answer() -> None:
    """A connection with something left over is not used again: the next answer would begin with it."""
    connections = 0

    async def handler(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(stream)
            await stream.send(ANSWERS["a newline that was not counted"])

    async with listening(handler) as url, house() as w:
        for _ in range(2):
            assert (await w.client.request("POST", url)).json_object() == TOKENS
    assert connections == 2


def test_members_of_an_object_that_is_cut_anywhere() -> None:
    """No member changes, a number at the cut is left out, and a token counts from its closing quote on."""
    whole = {**TOKENS, "text": 'a "quoted" \\ é', "nested": {"a": [1, {"b": None}]}, "sub": "did:plc:a"}
    text = json.dumps(whole, ensure_ascii=False).encode()
    ends = text.index(b'"NEW-r"') + len(b'"NEW-r"')
    for cut in range(len(text) + 1):
        found = members(text[:cut])
        assert found.items() <= whole.items()
        assert ("refresh_token" in found) == (cut >= ends)
    assert members(text) == whole


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b'{"a"}', b"<html>{}", b"\xff\xfe{", b'{"a":' * 100_000, b"{" * 200_000, b'"{"'],
)
def test_no_object_has_no_members(body: bytes) -> None:
    """Whatever stands there, nothing is made up and nothing is raised."""
    assert members(body) in ({}, {"a": {}})


def test_unpacking_is_bounded() -> None:
    """However often a body was packed, no more than one byte above the limit comes out."""
    bomb = gzip.compress(gzip.compress(b"x" * 5_000_000))
    assert len(unpacked(bomb, "gzip, gzip", MAX_BODY)) <= MAX_BODY + 1
