"""One of many client programs: calls its PDS through `SessionAuth` without pause until its input ends.

Says "ready" before its first call, and at its end one line of JSON: what became of its calls.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

import anyio
import httpx

from idiolectd import IdiolectError, SessionAuth, load_session

# Every so many calls one writes a record; the others ask whose token it is.
_WRITE_EVERY = 5


@dataclass
class Tally:
    """What one client counted; times in seconds."""

    calls: int = 0
    failed: int = 0
    repeated: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, seconds: float, answer: httpx.Response | None, error: Exception | None) -> None:
        """Counts one call."""
        self.calls += 1
        self.slowest = max(self.slowest, seconds)
        if answer is not None and answer.status_code == 200:
            self.repeated += any(map(_is_token_refused, answer.history))
            return
        self.failed += 1
        if len(self.failures) < 3:
            self.failures.append(
                f"{error!r}" if answer is None else f"{answer.status_code} {answer.text[:200]}"
            )


def _is_token_refused(answer: httpx.Response) -> bool:
    return "invalid_token" in answer.headers.get("www-authenticate", "") or "ExpiredToken" in answer.text


def _request(client: httpx.Client | httpx.AsyncClient, pds: str, did: str, number: int) -> httpx.Request:
    if number % _WRITE_EVERY:
        return client.build_request("GET", f"{pds}/xrpc/com.atproto.server.getSession")
    post = {"$type": "app.bsky.feed.post", "text": f"call {number}", "createdAt": "2024-01-01T00:00:00Z"}
    body = {"repo": did, "collection": "app.bsky.feed.post", "record": post}
    return client.build_request("POST", f"{pds}/xrpc/com.atproto.repo.createRecord", json=body)


def _use(auth: SessionAuth, pds: str, did: str, done: Callable[[], bool]) -> Tally:
    tally = Tally()
    with httpx.Client(auth=auth, trust_env=False, timeout=60) as client:
        while not done():
            began, answer, trouble = time.monotonic(), None, None
            try:
                answer = client.send(_request(client, pds, did, tally.calls))
            except (IdiolectError, httpx.HTTPError) as error:
                trouble = error
            tally.add(time.monotonic() - began, answer, trouble)
    return tally


async def _use_async(auth: SessionAuth, pds: str, did: str, done: Callable[[], bool]) -> Tally:
    tally = Tally()
    async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=60) as client:
        while not done():
            began, answer, trouble = time.monotonic(), None, None
            try:
                answer = await client.send(_request(client, pds, did, tally.calls))
            except (IdiolectError, httpx.HTTPError) as error:
                trouble = error
            tally.add(time.monotonic() - began, answer, trouble)
    return tally


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("did")
    parser.add_argument("--way", choices=["asyncio", "trio", "sync"], required=True)
    parser.add_argument("--patience", type=float, required=True)
    given = parser.parse_args()
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    pds = load_session(given.store, given.did).pds_url
    auth = SessionAuth(given.store, given.did, patience=given.patience)
    print("ready", flush=True)
    if given.way == "sync":
        tally = _use(auth, pds, given.did, ended.is_set)
    else:
        tally = anyio.run(partial(_use_async, auth, pds, given.did, ended.is_set), backend=given.way)
    print(json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    main()
