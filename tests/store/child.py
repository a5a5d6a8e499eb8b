"""What another process does to a store: ``python -m tests.store.child COMMAND URL DID [N]``.

It says ``ready`` when it has begun, and stops when its standard input ends.
"""

import os
import sys
import time

import anyio
import anyio.to_thread

from idiolectd.errors import IdiolectError, LockBusy
from idiolectd.ports import SharedStore
from idiolectd.store import open_store
from tests.store.support import rotated, session


def say(text: str) -> None:
    print(text, flush=True)


async def claim(store: SharedStore, did: str, _number: int) -> None:
    """Holds the claim."""
    try:
        async with store.claim(did, patience=0):
            say("ready")
            await anyio.to_thread.run_sync(sys.stdin.read)
    except LockBusy:
        say("busy")


async def claim_and_fork(store: SharedStore, did: str, _number: int) -> None:
    """Holds the claim and has a forked child that outlives it."""
    async with store.claim(did, patience=0):
        child = _fork_sleeper()
        say(f"ready {child}")
        await anyio.to_thread.run_sync(sys.stdin.read)


def _fork_sleeper() -> int:
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    return child


async def rewrite(store: SharedStore, did: str, number: int) -> None:
    """Rotates the tokens again and again, with records of changing length."""
    say("ready")
    for generation in range(1, number):
        entry = await store.read(did)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, generation + 1)
        await store.commit(entry.session, state, tokens=new)
        if generation % 50 == 0:
            await store.save(session(did, generation + 1, extra={"pad": "x" * (generation * 7 % 9000)}))


async def save(store: SharedStore, did: str, number: int) -> None:
    """Saves one generation."""
    await store.save(session(did, number))
    say("ready")


async def load(store: SharedStore, did: str, _number: int) -> None:
    """Reads, as a program that may not write."""
    found = await store.load(did)
    say(f"ready {found.refresh_jwt if found else None} {' '.join(await store.list_dids())}")


async def crash(store: SharedStore, did: str, number: int) -> None:
    """Fails while work is going on, in a task group whose other tasks are cancelled."""

    async def write(generation: int) -> None:
        await store.save(session(did, generation))

    async with anyio.create_task_group() as group:
        for generation in range(number):
            group.start_soon(write, generation)
        async with store.watch() as watch:
            await watch.wait_changed()
            raise ValueError("on purpose")


COMMANDS = {f.__name__: f for f in (claim, claim_and_fork, rewrite, save, load, crash)}


async def main(*arguments: str) -> None:
    command, url, did, number = (*arguments, "1")[:4]
    if "DROP_TO" in os.environ:  # a user who may only read
        os.setgroups([])
        os.setgid(int(os.environ["DROP_TO"]))
        os.setuid(int(os.environ["DROP_TO"]))
    async with open_store(url) as store:
        await COMMANDS[command](store, did, int(number))


if __name__ == "__main__":
    backend, *arguments = sys.argv[1:]
    try:
        anyio.run(main, *arguments, backend=backend)
    except IdiolectError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)
