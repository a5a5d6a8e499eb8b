"""The floor: the least that Python needs for the promises of a refresh, without anything else.

    python -m bench.floor DATABASE SESSIONS WORKERS (h11 | raw)

For each session: a lock that the kernel frees (the claim), the record read, a note that is durable
before the first byte is sent, a DPoP proof, the request, the new tokens durable before the lock is
let go, one log line. What waits for the disk at the same time shares one commit. It decides nothing,
mends nothing and watches nobody: whatever costs more than this does more than this.

``h11`` parses answers with h11, as httpcore does; ``raw`` cuts them apart by hand, knowing this server.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import struct
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import h11
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.peers import finished
from bench.seeding import did, rfc3339, unique

_ECDSA = ec.ECDSA(hashes.SHA256())
_PUBLIC = ("kty", "crv", "x", "y")


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def encoded(value: object) -> bytes:
    return urlsafe_b64encode(compact(value).encode()).rstrip(b"=")


@dataclass(frozen=True)
class Change:
    """What is to be made durable for one session.

    Attributes:
        record: the record with new tokens; None: it stays.
    """

    did: str
    state: str
    due: float
    record: str | None = None


class Database:
    """Reads in place; writes in a thread, everything that waits in one durable commit."""

    def __init__(self, path: Path) -> None:
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._writer.execute("PRAGMA synchronous=FULL")
        self._writer.execute(
            "CREATE TABLE IF NOT EXISTS state (did TEXT PRIMARY KEY NOT NULL, state_json TEXT, due REAL)"
        )
        self._waiting: list[tuple[Change, trio.Event]] = []
        self._is_writing = False

    def record(self, name: str) -> dict[str, Any]:
        row = self._reader.execute("SELECT body_json FROM sessions WHERE did = ?", (name,)).fetchone()
        record: dict[str, Any] = json.loads(row[0])
        return record

    async def put(self, change: Change) -> None:
        """Returns when the change is durable."""
        durable = trio.Event()
        self._waiting.append((change, durable))
        if not self._is_writing:
            self._is_writing = True
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await trio.to_thread.run_sync(self._commit, [change for change, _ in batch])
                for _, written in batch:
                    written.set()
            self._is_writing = False
        await durable.wait()

    def _commit(self, changes: list[Change]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany(
            "UPDATE sessions SET body_json = ? WHERE did = ?",
            [(change.record, change.did) for change in changes if change.record is not None],
        )
        self._writer.executemany(
            "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (did) DO UPDATE SET "
            "state_json = excluded.state_json, due = excluded.due",
            [(change.did, change.state, change.due) for change in changes],
        )
        self._writer.execute("COMMIT")


@contextmanager
def claim(path: Path, number: int) -> Iterator[None]:
    """Holds the byte of a session; the kernel frees it with the process."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
        yield
    finally:
        os.close(fd)


def proof(jwk: dict[str, str], url: str, nonce: str | None) -> bytes:
    """A DPoP proof (RFC 9449)."""
    key = ec.derive_private_key(int.from_bytes(urlsafe_b64decode(jwk["d"] + "="), "big"), ec.SECP256R1())
    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": {name: jwk[name] for name in _PUBLIC}}
    claims = {"jti": unique(), "htm": "POST", "htu": url, "iat": int(time.time())}
    if nonce is not None:
        claims["nonce"] = nonce
    signed = encoded(head) + b"." + encoded(claims)
    r, s = decode_dss_signature(key.sign(signed, _ECDSA))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")


@dataclass(frozen=True)
class Answer:
    status: int
    nonce: str
    body: bytes


class Http:
    """Connections that are kept, a list for each host."""

    def __init__(self) -> None:
        self._idle: defaultdict[str, list[trio.SocketStream]] = defaultdict(list)

    async def post(self, url: str, form: dict[str, str], dpop: bytes) -> Answer:
        parts = urlsplit(url)
        idle = self._idle[parts.netloc]
        stream = idle.pop() if idle else await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
        fields = [
            (b"Host", parts.netloc.encode()),
            (b"Accept", b"application/json"),
            (b"User-Agent", b"floor"),
            (b"DPoP", dpop),
            (b"Content-Type", b"application/x-www-form-urlencoded"),
        ]
        answer = await self._exchange(stream, parts.path.encode(), fields, urlencode(form).encode())
        idle.append(stream)
        return answer

    async def _exchange(
        self, stream: trio.SocketStream, path: bytes, fields: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        raise NotImplementedError


class RawHttp(Http):
    """Knows that the answer comes in one chunk."""

    async def _exchange(
        self, stream: trio.SocketStream, path: bytes, fields: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        await stream.send_all(
            b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (path, head, len(body), body)
        )
        arrived = b""
        while not arrived.endswith(b"0\r\n\r\n"):
            part = await stream.receive_some(65536)
            if not part:
                raise ConnectionError("closed in an answer")
            arrived += part
        answer_head, _, chunks = arrived.partition(b"\r\n\r\n")
        size, _, content = chunks.partition(b"\r\n")
        nonce = answer_head.partition(b"DPoP-Nonce: ")[2].partition(b"\r\n")[0]
        return Answer(int(answer_head[9:12]), nonce.decode(), content[: int(size, 16)])


class H11Http(Http):
    """Parses whatever is HTTP."""

    async def _exchange(
        self, stream: trio.SocketStream, path: bytes, fields: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        connection = h11.Connection(h11.CLIENT)
        fields = [*fields, (b"Content-Length", b"%d" % len(body))]
        events = (
            h11.Request(method=b"POST", target=path, headers=fields),
            h11.Data(body),
            h11.EndOfMessage(),
        )
        await stream.send_all(b"".join(connection.send(event) or b"" for event in events))
        status, nonce, content = 0, "", b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                nonce = dict(event.headers)[b"dpop-nonce"].decode()
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, nonce, content)
            else:
                raise ConnectionError(f"{event} in an answer")


class Floor:
    """Refreshes each session once."""

    def __init__(self, path: Path, http: Http, log: int) -> None:
        self._database = Database(path)
        self._locks = path.with_suffix(".locks")
        self._http = http
        self._log = log
        self._nonces: dict[str, str] = {}

    async def run(self, sessions: int, workers: int) -> None:
        numbers = iter(range(sessions))

        async def work() -> None:
            for number in numbers:
                with claim(self._locks, number):
                    await self._refresh(did(number))

        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(work)

    async def _refresh(self, name: str) -> None:
        record = self._database.record(name)
        spent = hashlib.sha256(record["refreshJwt"].encode()).hexdigest()
        now = time.time()
        await self._database.put(Change(name, compact({"note": spent, "at": now}), now + 30))
        tokens = await self._exchange(record)
        if tokens["sub"] != name or tokens["token_type"] != "DPoP":
            raise ValueError(f"tokens of {tokens['sub']} for {name}")
        now = time.time()
        record |= {
            "accessJwt": tokens["access_token"],
            "refreshJwt": tokens["refresh_token"],
            "issuedAt": rfc3339(now),
            "expiresAt": rfc3339(now + tokens["expires_in"]),
        }
        text = compact(record)
        state = compact({"last_good": text, "spent": [spent], "rotated_at": now})
        await self._database.put(Change(name, state, now + 0.7 * tokens["expires_in"], text))
        line = {"time": rfc3339(now), "level": "info", "event": "session.refreshed", "did": name}
        os.write(self._log, (compact(line) + "\n").encode())

    async def _exchange(self, record: dict[str, Any]) -> dict[str, Any]:
        issuer = record["issuer"]
        url = f"{issuer}/oauth/token"
        jwk = json.loads(record["dpopPrivateKeyJwk"])
        form = {
            "grant_type": "refresh_token",
            "refresh_token": record["refreshJwt"],
            "client_id": record["clientId"],
        }
        answer = await self._post(url, form, jwk, issuer)
        if answer.status == 400 and b"use_dpop_nonce" in answer.body:
            answer = await self._post(url, form, jwk, issuer)
        if answer.status != 200:
            raise ValueError(f"status {answer.status}: {answer.body.decode()}")
        tokens: dict[str, Any] = json.loads(answer.body)
        return tokens

    async def _post(self, url: str, form: dict[str, str], jwk: dict[str, str], issuer: str) -> Answer:
        answer = await self._http.post(url, form, proof(jwk, url, self._nonces.get(issuer)))
        self._nonces[issuer] = answer.nonce
        return answer


def main() -> None:
    path, sessions, workers, transport = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    trio.run(Floor(path, RawHttp() if transport == "raw" else H11Http(), log).run, sessions, workers)
    finished()


if __name__ == "__main__":
    main()
