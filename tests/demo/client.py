"""One client process of the demo: reads the store, calls the PDS, never refreshes anything.

Prints one JSON line a second: what it has done so far. A call that is refused because its token was
rotated between reading and calling waits for the record to change, and is repeated once.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx

from idiolectd import OAuthSession, OAuthTokenStore, auth_headers, open_store

# The daemon writes within milliseconds of the server's answer; this is how long a reader waits.
_LONGEST_WAIT = 2.0


@dataclass
class Counts:
    """What a client has done so far."""

    calls: int = 0
    reread: int = 0
    failed: int = 0
    last_failure: str = ""


class Client:
    """Calls `com.atproto.repo.createRecord` for one account after the other."""

    def __init__(self, store: OAuthTokenStore, http: httpx.AsyncClient) -> None:
        self.counts = Counts()
        self._store = store
        self._http = http
        self._nonces: dict[str, str] = {}

    async def run(self) -> None:
        """Calls without pause until it is cancelled."""
        dids = await self._store.list_dids()
        while True:
            for did in dids:
                await self._use(did)

    async def report(self) -> None:
        """Says once a second what was done."""
        while True:
            await anyio.sleep(1)
            print(json.dumps(asdict(self.counts)), flush=True)

    async def _use(self, did: str) -> None:
        session = await self._load(did)
        answer = await self._call(session)
        if answer.status_code in (400, 401):  # the token was rotated a moment ago
            self.counts.reread += 1
            answer = await self._call(await self._wait_changed(session))
        self.counts.calls += 1
        if answer.status_code != 200:
            self.counts.failed += 1
            self.counts.last_failure = f"{did} {answer.status_code} {answer.text[:120]}"

    async def _load(self, did: str) -> OAuthSession:
        session = await self._store.load(did)
        if session is None:
            raise SystemExit(f"{did} is gone from the store")
        return session

    async def _wait_changed(self, refused: OAuthSession) -> OAuthSession:
        with anyio.move_on_after(_LONGEST_WAIT):
            while True:
                session = await self._load(refused.did)
                if session.access_jwt != refused.access_jwt:
                    return session
                await anyio.sleep(0.02)
        return refused

    async def _call(self, session: OAuthSession) -> httpx.Response:
        url = f"{session.pds_url}/xrpc/com.atproto.repo.createRecord"
        server = urlsplit(url).netloc
        record = {"$type": "app.bsky.feed.post", "text": "hello", "createdAt": "2027-01-01T00:00:00Z"}
        body = {"repo": session.did, "collection": "app.bsky.feed.post", "record": record}
        answer = await self._post(session, url, body)
        if _wants_nonce(answer):
            answer = await self._post(session, url, body)
        if nonce := answer.headers.get("dpop-nonce"):
            self._nonces[server] = nonce
        return answer

    async def _post(self, session: OAuthSession, url: str, body: Mapping[str, object]) -> httpx.Response:
        server = urlsplit(url).netloc
        headers = auth_headers(session, "POST", url, nonce=self._nonces.get(server))
        answer = await self._http.post(url, json=body, headers=headers)
        if nonce := answer.headers.get("dpop-nonce"):
            self._nonces[server] = nonce
        return answer


def _wants_nonce(answer: httpx.Response) -> bool:
    return answer.status_code == 401 and "use_dpop_nonce" in answer.headers.get("www-authenticate", "")


async def main(store_url: str) -> None:
    """Runs until standard input closes."""
    async with (
        open_store(store_url) as store,
        httpx.AsyncClient(trust_env=False) as http,
        anyio.create_task_group() as tg,
    ):
        client = Client(store, http)
        tg.start_soon(client.run)
        tg.start_soon(client.report)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        tg.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store_url")
    parser.add_argument("--backend", choices=("trio", "asyncio"), default="asyncio")
    arguments = parser.parse_args()
    anyio.run(main, arguments.store_url, backend=arguments.backend)
