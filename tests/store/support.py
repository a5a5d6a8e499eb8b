"""Sessions to store, and the three stores to store them in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from idiolectd.clock import rfc3339
from idiolectd.ports import SharedStore
from idiolectd.session import OAuthSession, Tokens
from idiolectd.state import RefreshState, reconcile
from idiolectd.store import open_store
from tests.memory_store import MemoryStore

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_700_000_000.0
# For what comes at once, or within a second, on a machine that has nothing else to do. A busy one may take
# longer; only what never comes takes this long.
SOON = 30.0
ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
# Two accounts that upstream's filesystem store confuses.
WEB_COLON = "did:web:a:b.example"
WEB_UNDERSCORE = "did:web:a_b.example"

Opener = Callable[[], AbstractAsyncContextManager[SharedStore]]


def key(name: str = "k") -> str:
    """Something with a thumbprint; nobody signs with it here."""
    return json.dumps({"kty": "EC", "crv": "P-256", "x": name, "y": "y", "d": "d"})


def session(did: str = ALICE, generation: int = 1, **changes: Any) -> OAuthSession:
    """The session of a DID after so many rotations."""
    made = OAuthSession(
        did=did,
        pds_url="https://pds.example",
        access_jwt=f"access-{generation}",
        refresh_jwt=f"refresh-{generation}",
        dpop_private_key_jwk=key(),
        token_type="DPoP",
        scope="atproto",
        handle="alice.example",
        issued_at=rfc3339(NOW + generation),
        expires_at=rfc3339(NOW + generation + 3600),
        issuer="https://issuer.example",
    )
    return replace(made, **changes)


def tokens(generation: int) -> Tokens:
    """What the rotation to a generation brings."""
    return Tokens(
        access_jwt=f"access-{generation}",
        refresh_jwt=f"refresh-{generation}",
        issued_at=rfc3339(NOW + generation),
        expires_at=rfc3339(NOW + generation + 3600),
    )


def rotated(read: OAuthSession, state: RefreshState, generation: int) -> tuple[Tokens, RefreshState]:
    """The tokens of the next generation, and the state that goes with them."""
    new = tokens(generation)
    return new, reconcile(read, state, NOW).state.rotated(read, read.with_tokens(new), NOW)


def opener(kind: str, folder: Path) -> Opener:
    """Opens the same store again and again (a memory store: a new one)."""
    if kind == "memory":
        return MemoryStore.open
    urls = {
        "files": f"file://{folder}/files",
        "sqlite": f"sqlite://{folder}/db/sessions.sqlite",
    }
    return lambda: open_store(urls[kind])


async def put_foreign(store: SharedStore, folder: Path, did: str, text: bytes) -> None:
    """Stores any text as a record, in the way a foreign program would."""
    import sqlite3

    from idiolectd.did import upstream_file_name

    if isinstance(store, MemoryStore):
        store.put_record(did, text)
    elif store.url.startswith("file:"):
        (folder / "files" / upstream_file_name(did)).write_bytes(text)
    else:
        foreign = sqlite3.connect(folder / "db" / "sessions.sqlite")
        with foreign:
            foreign.execute(
                "INSERT INTO sessions (did, body_json) VALUES (?, CAST(? AS TEXT)) "
                "ON CONFLICT(did) DO UPDATE SET body_json = excluded.body_json",
                (did, text),
            )
        foreign.close()


async def remove_foreign(store: SharedStore, folder: Path, did: str) -> None:
    """Removes a record in the way a foreign program would."""
    import sqlite3

    from idiolectd.did import upstream_file_name

    if isinstance(store, MemoryStore):
        store.remove_record(did)
    elif store.url.startswith("file:"):
        (folder / "files" / upstream_file_name(did)).unlink()
    else:
        foreign = sqlite3.connect(folder / "db" / "sessions.sqlite")
        with foreign:
            foreign.execute("DELETE FROM sessions WHERE did = ?", (did,))
        foreign.close()


def open_in(folder: Path) -> list[str]:
    """What this process has open there: elsewhere, another test's may still be closed meanwhile."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.append(str(entry.readlink()))
    return [name for name in found if name.startswith(str(folder))]


class Child:
    """A process that runs `tests.store.child`; killed at the end if need be."""

    def __init__(self, backend: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.child", backend, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **(env or {})},
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def finish(self) -> int:
        """Ends its standard input and waits for it."""
        self.process.communicate(timeout=60)
        return self.process.returncode
