"""A strict simulator behind httpx clients of each kind, and a store of files whose record moves on."""

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import anyio
import httpx

from idiolectd import OAuthSession, SessionAuth
from idiolectd.auth.servers import Servers
from idiolectd.did import file_name
from tests.simulator import Account, Simulator
from tests.simulator.oauth import rotate
from tests.simulator.wire import Request, Response

PDS = "https://pds.test"
GET_SESSION = f"{PDS}/xrpc/com.atproto.server.getSession"
CREATE_RECORD = f"{PDS}/xrpc/com.atproto.repo.createRecord"

# What no test waits for: it bounds a hang, not a wait.
LONG = 20.0

Way = Literal["asyncio", "trio", "sync"]
WAYS: tuple[Way, ...] = get_args(Way)

Body = Iterator[bytes] | AsyncIterator[bytes]


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests of sync and async clients to simulators, and keeps them.

    Attributes:
        requests: what arrived, in order.
        before: called with the number of each request before it is served; may act on the server, or
            answer in its place.
    """

    def __init__(self, serve: Callable[[Request], Response]) -> None:
        self._serve = serve
        self._one_at_a_time = threading.Lock()
        self.requests: list[Request] = []
        self.before: Callable[[int, Request], Response | None] = lambda _number, _request: None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw
        ]
        arrived = Request(request.method, str(request.url), headers, request.content)
        with self._one_at_a_time:
            self.requests.append(arrived)
            answer = self.before(len(self.requests), arrived) or self._serve(arrived)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body)

    @property
    def paths(self) -> list[str]:
        """The methods that were called, in order."""
        return [request.path.rpartition(".")[2] for request in self.requests]


@dataclass
class House:
    """One account with one session, on a server and in a store."""

    folder: Path
    kind: Literal["dpop", "bearer"] = "dpop"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.sim = Simulator(PDS, now=time.time, **self.options)
        self.account: Account = self.sim.add_account("alice.test")
        self.did = self.account.did
        seed = self.sim.seed_oauth if self.kind == "dpop" else self.sim.seed_legacy
        self.record = {**seed(self.account), "confirmedHandle": "alice.test"}
        self.wire = Wire(self.sim.handle)
        self.servers = Servers()
        self.store()

    @property
    def session(self) -> OAuthSession:
        """What the server would take now."""
        return OAuthSession.from_json(json.dumps(self.record))

    @property
    def path(self) -> Path:
        """The file of the record."""
        return self.folder / file_name(self.did)

    def store(self, **changes: Any) -> None:
        """Writes the record as it is now, whole."""
        draft = self.folder / ".draft"
        draft.write_text(json.dumps({**self.record, **changes}))
        draft.replace(self.path)

    def rotate(self) -> None:
        """New tokens at the server; the store does not know them yet."""
        (session,) = self.sim.state.oauth_sessions
        rotate(self.sim.state, session)
        self.record |= {"accessJwt": session.access_token, "refreshJwt": session.refresh_token}

    def store_later(self, seconds: float) -> threading.Timer:
        """Writes the record after a while, as a refresher elsewhere does."""
        return self.later(seconds, self.store)

    def later(self, seconds: float, what: Callable[[], None]) -> threading.Timer:
        """Does something after a while, in a thread."""
        timer = threading.Timer(seconds, what)
        timer.start()
        return timer

    def auth(self, **options: Any) -> SessionAuth:
        """An auth of its own, with a memory of its own."""
        given = {"store": str(self.folder), "account": self.did, "servers": self.servers, **options}
        return SessionAuth(given.pop("store"), given.pop("account"), **given)

    def fetch(
        self, way: Way, auth: SessionAuth, method: str = "GET", url: str = GET_SESSION, **options: Any
    ) -> httpx.Response:
        """One request with a client of this kind; its body is read."""
        follow = options.pop("follow_redirects", False)
        if way == "sync":
            with httpx.Client(transport=self.wire, auth=auth, follow_redirects=follow) as client:
                return client.request(method, url, **options)

        async def main() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.wire, auth=auth, follow_redirects=follow) as http:
                return await http.request(method, url, **options)

        return anyio.run(main, backend=way)


def parts(way: Way, *pieces: bytes) -> Body:
    """A body that can be sent once."""
    if way == "sync":
        return iter(pieces)

    async def made() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return made()


def record_body(did: str) -> dict[str, Any]:
    """What createRecord wants."""
    return {"repo": did, "collection": "app.bsky.feed.post", "record": {"text": "hello"}}


def refused_tokens(house: House) -> int:
    """How many requests the server refused for their token."""
    return house.sim.counters.api_refusals
