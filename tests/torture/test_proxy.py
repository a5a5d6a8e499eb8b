"""The short version of `proxy`, and the proxy itself."""

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.torture.common import server
from tests.torture.proxy import run
from tests.torture.wire import Kind, Mishap, Wire, running_wire
from tests.torture.wire_http import Asked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

LOGIN = "/xrpc/com.atproto.server.createSession"
BODY = json.dumps({"identifier": "nobody.test", "password": "wrong"})


@pytest.mark.torture
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_an_answer_that_breaks_off_is_recovered_or_named() -> None:
    """An answer counts if it arrived whole; else legacy is recovered, and OAuth is lost only if rotated."""
    assert await run(full=False) == 0


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with server() as simulator, running_wire(int(simulator.url.rpartition(":")[2])) as made:
        yield made


def logins(asked: Asked) -> bool:
    return asked.path == LOGIN


def attempt(wire: Wire) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", wire.port, timeout=10)
    try:
        connection.request("POST", LOGIN, body=BODY, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kind", "count", "error", "is_served"),
    [
        ("drop_request", 0, http.client.RemoteDisconnected, False),
        ("reset_request", 0, ConnectionResetError, False),
        ("drop_answer", 0, http.client.RemoteDisconnected, True),
        ("reset_answer", 0, ConnectionResetError, True),
        ("cut_answer", -1, http.client.IncompleteRead, True),
        ("cut_by_reset", -1, (ConnectionResetError, http.client.IncompleteRead), True),
    ],
)
def test_a_mishap_strikes_once_and_where_it_should(
    wire: Wire, kind: Kind, count: int, error: type[Exception], is_served: bool
) -> None:
    """The server has seen the request or has not, the client gets so much, and the next one passes."""
    whole = attempt(wire)
    before, struck_before = len(wire.served), len(wire.struck)
    length = len(wire.served[-1].answer)
    wire.add(Mishap(kind, match=logins, count=length + count))
    with pytest.raises(error):
        attempt(wire)
    assert len(wire.served) - before == is_served
    (struck,) = wire.struck[struck_before:]
    assert struck.served.status == (whole[0] if is_served else 0)
    assert struck.arrived == (length + count if kind.startswith("cut") else 0)
    assert attempt(wire) == whole


def test_a_status_picks_the_answers(wire: Wire) -> None:
    """A mishap for answers of one status leaves the others alone, and waits for its own."""
    whole = attempt(wire)
    struck = len(wire.struck)
    wire.add(Mishap("drop_answer", match=logins, status=200))
    mishap = wire.add(Mishap("drop_answer", match=logins, status=whole[0]))
    with pytest.raises(http.client.RemoteDisconnected):
        attempt(wire)
    assert [one.mishap for one in wire.struck[struck:]] == [mishap]


def test_a_mishap_that_can_not_be_is_refused() -> None:
    """Before the server is asked there is no status to choose by."""
    with pytest.raises(ValueError, match="no answer"):
        Mishap("drop_request", status=200)
