"""One open store in more than one event loop, in a forked child, and a signal handler that forks.

Each works, or says so at once. In processes of their own, with a bound: what fails here hangs.
"""

import subprocess
import sys
from pathlib import Path

import pytest

# Both loops have the store at the same time; each says what became of its work.
_TWO_LOOPS = """if True:
    import sys, threading, anyio
    from dataclasses import replace
    from idiolectd import open_store
    from idiolectd.errors import StoreError
    from tests.store.support import ALICE, session
    url, first, second = sys.argv[1:]

    async def use(store):
        try:
            for number in range(20):
                async with store.claim(ALICE, patience=10):
                    await store.save(session(generation=number))
                assert (await store.read(ALICE)).session is not None
        except StoreError as error:
            return str(error)
        return "worked"

    async def main():
        async with open_store(url) as store:
            await store.save(session())
            async with anyio.create_task_group() as group:
                said = {}
                def elsewhere():
                    said["elsewhere"] = anyio.run(use, store, backend=second)
                group.start_soon(anyio.to_thread.run_sync, elsewhere)
                said["here"] = await use(store)
            print(said["here"], said["elsewhere"], sep="\\n")
    anyio.run(main, backend=first)
    """

_FORKED = """if True:
    import os, sys, anyio
    from idiolectd import open_store
    from idiolectd.errors import StoreError
    from tests.store.support import ALICE, session
    url, backend = sys.argv[1:]

    def fork(store):
        child = os.fork()
        if child == 0:  # with this thread alone, in which no event loop runs
            try:
                found = anyio.run(store.load, ALICE, backend=backend)
                print("worked" if found is not None else "nothing", flush=True)
            except BaseException as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)

    async def main():
        async with open_store(url) as store:
            await store.save(session())
            await anyio.to_thread.run_sync(fork, store)
            assert await store.load(ALICE) is not None
    anyio.run(main, backend=backend)
    """

# A timer interrupts claims, writes and reads of this very thread, and its handler forks.
_FORKING_HANDLER = """if True:
    import os, random, signal, sys, time, anyio
    from idiolectd import open_store
    from idiolectd.store import open_reading
    from tests.store.support import ALICE, session
    url, = sys.argv[1:]
    children = []

    def fork(_number, _frame):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)

    async def main():
        reading = open_reading(url)
        async with open_store(url) as store:
            await store.save(session())
            signal.signal(signal.SIGALRM, fork)
            while len(children) < 30:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.003 * random.random())
                async with store.claim(ALICE, patience=0):
                    for _ in range(20):
                        reading.record(ALICE, waiting=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            async with store.claim(ALICE, patience=0):  # no child has kept it
                pass
            print("worked")
    try:
        anyio.run(main, backend="asyncio")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    """

# The signal comes while a lock is being taken, in the middle of what a fork has to wait for.
_FORKING_IN_THE_MIDDLE = """if True:
    import os, signal, sys
    from pathlib import Path
    from idiolectd.store.locks.ofd import try_lock

    def fork(_number, _frame):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # once
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    class Interrupted(type(Path())):
        def __fspath__(self):
            signal.raise_signal(signal.SIGUSR1)
            return super().__fspath__()

    signal.signal(signal.SIGUSR1, fork)
    with try_lock(Interrupted(sys.argv[1])):
        print("worked")
    """


def run(program: str, *arguments: str) -> list[str]:
    """What a program prints, line by line; it is not waited for without end."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(params=["files", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/files" if request.param == "files" else f"sqlite://{tmp_path}/sessions.sqlite"


@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "asyncio")], ids="-".join)
def test_one_open_store_in_two_loops(url: str, backends: tuple[str, str]) -> None:
    """The kernel keeps two loops apart as it keeps processes; a database's connection belongs to one."""
    here, elsewhere = run(_TWO_LOOPS, url, *backends)
    assert here == "worked"
    assert elsewhere == "worked" if url.startswith("file:") else "another event loop" in elsewhere


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_open_store_in_a_forked_child(url: str, backend: str) -> None:
    """A child has none of its parent's threads: it uses what needs none, and is told of the rest."""
    (said,) = run(_FORKED, url, backend)
    assert said == "worked" if url.startswith("file:") else "forked" in said


def test_a_signal_handler_that_forks(url: str) -> None:
    """It interrupts whatever this thread does, and neither hangs nor lets a child keep a claim."""
    assert run(_FORKING_HANDLER, url) == ["worked"]


def test_a_signal_handler_that_forks_in_the_middle(tmp_path: Path) -> None:
    """The thread that takes a lock is the one that forks: it does not wait for itself."""
    assert run(_FORKING_IN_THE_MIDDLE, str(tmp_path / "lock")) == ["worked"]
