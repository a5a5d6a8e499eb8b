"""One client process of the demo: a program that knows nothing of tokens, on top of `SessionAuth`.

Prints one JSON line a second: what it has done so far. A call whose token was rotated between reading
and calling is refused, waits for the record to change, and is repeated: `reread` counts those.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import anyio
import anyio.to_thread
import httpx

from idiolectd import IdiolectError, OAuthTokenStore, SessionAuth, open_store


@dataclass
class Counts:
    """What a client has done so far."""

    calls: int = 0
    reread: int = 0
    failed: int = 0
    last_failure: str = ""


class Client:
    """Calls `com.atproto.repo.createRecord` for one account after the other."""

    def __init__(self, store: OAuthTokenStore) -> None:
        self.counts = Counts()
        self._store = store

    async def run(self) -> None:
        """Calls without pause until it is cancelled."""
        accounts = {}
        for did in await self._store.list_dids():
            session = await self._store.load(did)
            if session is not None:
                accounts[did] = (session.pds_url, SessionAuth(self._store, did))
        hooks = {"response": [self._count_refusal]}
        async with httpx.AsyncClient(trust_env=False, event_hooks=hooks) as http:
            while True:
                for did, (pds_url, auth) in accounts.items():
                    await self._use(http, did, pds_url, auth)

    async def report(self) -> None:
        """Says once a second what was done."""
        while True:
            await anyio.sleep(1)
            print(json.dumps(asdict(self.counts)), flush=True)

    async def _use(self, http: httpx.AsyncClient, did: str, pds_url: str, auth: SessionAuth) -> None:
        record = {"$type": "app.bsky.feed.post", "text": "hello", "createdAt": "2027-01-01T00:00:00Z"}
        body = {"repo": did, "collection": "app.bsky.feed.post", "record": record}
        failure = ""
        try:
            answer = await http.post(f"{pds_url}/xrpc/com.atproto.repo.createRecord", json=body, auth=auth)
            if answer.status_code != 200:
                failure = f"{answer.status_code} {answer.text[:120]}"
        except (httpx.HTTPError, IdiolectError) as error:
            failure = repr(error)
        self.counts.calls += 1
        if failure:
            self.counts.failed += 1
            self.counts.last_failure = f"{did} {failure}"

    async def _count_refusal(self, answer: httpx.Response) -> None:
        wants_nonce = "use_dpop_nonce" in answer.headers.get("www-authenticate", "")
        if answer.status_code in (400, 401) and not wants_nonce:
            self.counts.reread += 1


async def main(store_url: str) -> None:
    """Runs until standard input closes."""
    async with open_store(store_url) as store, anyio.create_task_group() as tg:
        client = Client(store)
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
