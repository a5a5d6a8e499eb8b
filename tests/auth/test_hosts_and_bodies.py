"""`SessionAuth`: where a token goes, and what becomes of a request's body."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from idiolectd import (
    BodyUsedUp,
    TokenWithheld,
)
from tests.auth.support import (
    CREATE_RECORD,
    GET_SESSION,
    LONG,
    PDS,
    House,
    Way,
    parts,
    record_body,
)
from tests.jose import decode
from tests.simulator.wire import Request, Response, json_response


@pytest.mark.parametrize(
    "url", ["https://evil.test/x", "http://pds.test/x", "https://pds.test:8443/x", "https://pds.test.evil/x"]
)
def test_a_token_goes_to_its_pds_only(way: Way, house: House, url: str) -> None:
    """Another host, scheme or port: an error that names both, and nothing is sent."""
    with pytest.raises(TokenWithheld, match=r"https://pds\.test .*also=") as raised:
        house.fetch(way, house.auth(), url=url)
    assert httpx.URL(url).host in str(raised.value)
    assert house.wire.requests == []


def test_another_host_can_be_allowed(way: Way, house: House) -> None:
    """``also`` names it; in the clear nobody gets a token but loopback."""
    house.wire.before = lambda _n, _r: Response(200)
    auth = house.auth(also=["https://appview.test/", "http://appview.test", "http://127.0.0.1:99"])
    assert house.fetch(way, auth, url="https://appview.test/x").status_code == 200
    assert house.fetch(way, auth, url="http://127.0.0.1:99/x").status_code == 200
    with pytest.raises(TokenWithheld, match="in the clear"):
        house.fetch(way, auth, url="http://appview.test/x")
    assert [request.origin for request in house.wire.requests] == [
        "https://appview.test",
        "http://127.0.0.1:99",
    ]


def test_a_redirect_carries_no_token_away(way: Way, house: House) -> None:
    """httpx drops the token on the way to another host; the proof that stays names the first URL only."""
    house.fetch(way, house.auth())
    first = len(house.wire.requests)

    def redirect(_number: int, request: Request) -> Response:
        if request.origin == PDS:
            return Response(302, [("Location", "https://cdn.test/blob")])
        return json_response(401, {"error": "invalid_token"}, ("DPoP-Nonce", "evil"))

    house.wire.before = redirect
    answer = house.fetch(way, house.auth(patience=LONG), follow_redirects=True)
    assert (answer.status_code, answer.url.host) == (401, "cdn.test")
    signed, followed = house.wire.requests[first:]
    assert followed.get("authorization") is None
    _, claims, *_ = decode(followed.get("dpop") or signed.get("dpop") or "")
    assert claims["htu"] == GET_SESSION
    assert house.servers.nonce("https://cdn.test") is None
    assert house.servers.nonce(PDS) not in (None, "evil")


def test_a_body_of_known_length_is_read_and_repeated(way: Way, house: House) -> None:
    """A generator with a length up to 8 MiB is sent again whole after a refusal."""
    auth = house.auth(patience=LONG)
    house.fetch(way, auth)
    house.rotate()
    saving = house.store_later(0.05)
    text = json.dumps(record_body(house.did)).encode()
    answer = house.fetch(
        way,
        auth,
        "POST",
        CREATE_RECORD,
        content=parts(way, text[:10], text[10:]),
        headers={"Content-Length": str(len(text))},
    )
    saving.join()
    assert answer.status_code == 200
    assert [request.body for request in house.wire.requests[-2:]] == [text, text]


def test_a_form_with_files_is_repeated(way: Way, house: House) -> None:
    """Multipart of known length, too, arrives twice the same."""
    auth = house.auth()
    house.fetch(way, auth)
    house.sim.restart()
    house.fetch(way, auth, "POST", CREATE_RECORD, files={"a": b"x" * 100})
    first, second = house.wire.requests[-2:]
    assert first.body == second.body
    assert len(first.body) > 100


@pytest.mark.parametrize("trouble", ["none", "nonce", "rotation"])
def test_a_body_of_unknown_length_is_sent_once_and_whole(way: Way, house: House, trouble: str) -> None:
    """The PDS is asked first whether it takes the token; the trouble happens to the question."""
    auth = house.auth(patience=LONG)
    if trouble != "nonce":
        house.fetch(way, auth)
    saving = None
    if trouble == "rotation":
        house.rotate()
        saving = house.store_later(0.1)
    text = json.dumps(record_body(house.did)).encode()
    answer = house.fetch(way, auth, "POST", CREATE_RECORD, content=parts(way, text[:10], text[10:]))
    if saving:
        saving.join()
    assert answer.status_code == 200
    assert house.wire.paths.count("createRecord") == 1
    assert house.wire.requests[-1].body == text


@pytest.mark.parametrize("trouble", ["nonce", "token"])
def test_a_body_that_is_used_up_is_told(way: Way, house: House, trouble: str) -> None:
    """Refused between question and request: an error, not half a body, and nothing lost in silence."""
    auth = house.auth(patience=LONG)

    def spoil(_number: int, request: Request) -> None:
        if request.path.endswith("createRecord"):
            house.rotate() if trouble == "token" else house.sim.restart()
            house.store()

    house.wire.before = spoil
    text = json.dumps(record_body(house.did)).encode()
    with pytest.raises(BodyUsedUp, match=f"its {trouble}.*again"):
        house.fetch(way, auth, "POST", CREATE_RECORD, content=parts(way, text))
    assert house.wire.paths.count("createRecord") == 1
    house.wire.before = lambda _n, _r: None
    assert house.fetch(way, auth, "POST", CREATE_RECORD, content=parts(way, text)).status_code == 200


def test_a_stream_of_the_wrong_kind_is_httpx_to_refuse(way: Way, house: House) -> None:
    """A sync generator in an async client, or the reverse: httpx's own error."""
    wrong = parts("asyncio" if way == "sync" else "sync", b"x")
    with pytest.raises((RuntimeError, AssertionError)):
        house.fetch(way, house.auth(), "POST", CREATE_RECORD, content=wrong, headers={"Content-Length": "1"})
    if hasattr(wrong, "aclose"):
        anyio.run(wrong.aclose)


def test_answers_stay_streams(way: Way, house: House) -> None:
    """Only refusals are read: a long answer arrives as it comes."""

    class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
        taken = 0

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(3):
                self.taken += 1
                yield b"part"

        async def __aiter__(self) -> Any:
            for _ in range(3):
                self.taken += 1
                yield b"part"

    body = Stream()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    if way == "sync":
        with (
            httpx.Client(transport=transport, auth=house.auth()) as client,
            client.stream("GET", GET_SESSION) as answer,
        ):
            assert body.taken == 0
            assert answer.read() == b"part" * 3
        return

    async def main() -> None:
        async with (
            httpx.AsyncClient(transport=transport, auth=house.auth()) as client,
            client.stream("GET", GET_SESSION) as answer,
        ):
            assert body.taken == 0
            assert await answer.aread() == b"part" * 3

    anyio.run(main, backend=way)
