"""Within a process tasks are served in their order, and what must not wait goes first."""

from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from idiolectd.errors import LockBusy
from idiolectd.store.locks.queues import Queues


@pytest.mark.anyio
async def test_what_must_not_wait_goes_first() -> None:
    """Among those who wait, each kind is served in the order in which it came."""
    queues, served = Queues(), list[str]()

    async def wait(name: str, *, first: bool) -> None:
        async with queues.hold("lock", 30, first=first):
            served.append(name)

    async with anyio.create_task_group() as tg, queues.hold("lock", 30):
        for number in range(3):
            tg.start_soon(partial(wait, f"last {number}", first=False))
            await anyio.wait_all_tasks_blocked()
        for number in range(3):
            tg.start_soon(partial(wait, f"first {number}", first=True))
            await anyio.wait_all_tasks_blocked()
    assert served == ["first 0", "first 1", "first 2", "last 0", "last 1", "last 2"]
    assert len(queues) == 0


def test_a_line_that_moves_is_no_trouble() -> None:
    """Who waits with a patience that restarts is told "busy" only when nobody has finished for so long."""
    queues, told, began = Queues(), list[str](), 0.0

    async def wait(name: str, *, restarts: bool) -> None:
        try:
            async with queues.hold("lock", 10, restarts=restarts):
                told.append(f"{name} served")
        except LockBusy:
            told.append(f"{name} busy at {anyio.current_time() - began:.0f}")

    async def main() -> None:
        nonlocal began
        began = anyio.current_time()
        async with anyio.create_task_group() as tg:
            for seconds, fails in ((6, False), (6, False), (6, True), (6, True)):
                tg.start_soon(_work, queues, seconds, fails)
                await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
            tg.start_soon(partial(wait, "strict", restarts=False))
            tg.start_soon(partial(wait, "restarting", restarts=True))

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})
    # The last that finished did so after 12 s; those who were told "busy" themselves don't count.
    assert told == ["strict busy at 10", "restarting busy at 22"]


async def _work(queues: Queues, seconds: float, fails: bool) -> None:
    with suppress(LockBusy):
        async with queues.hold("lock", 100):
            await anyio.sleep(seconds)
            if fails:
                raise LockBusy("somebody else's")


@pytest.mark.anyio
async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    """Who is cancelled in line, or in the moment in which it is given the turn, keeps nobody waiting."""
    queues = Queues()
    async with anyio.create_task_group() as tg:
        async with queues.hold("lock", 1):
            waiting = anyio.CancelScope()

            async def wait() -> None:
                with waiting:
                    async with queues.hold("lock", 30):
                        await anyio.lowlevel.checkpoint()

            tg.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(_work, queues, 0.0, False)
            await anyio.wait_all_tasks_blocked()
        waiting.cancel()  # it has the turn, and does not know yet
        with anyio.fail_after(10):
            async with queues.hold("lock", 10):
                pass
