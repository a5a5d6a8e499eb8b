"""`finish`: work that nobody can cancel."""

import asyncio
import signal

import anyio
import anyio.lowlevel
import pytest
import trio

from idiolectd.finish import finish


@pytest.mark.anyio
async def test_a_cancelled_scope_waits_for_the_work() -> None:
    """anyio's cancellation arrives after the work is done."""
    done: list[str] = []

    async def work() -> None:
        await anyio.sleep(0.05)
        done.append("work")

    with anyio.move_on_after(0.01):
        await finish(work)
        await anyio.sleep(1)
        done.append("never")
    assert done == ["work"]


@pytest.mark.anyio
async def test_it_returns_and_raises_what_the_work_does() -> None:
    """Results and errors pass through."""

    async def answer() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("mine")

    assert await finish(answer) == 7
    with pytest.raises(ValueError, match="mine"):
        await finish(fail)


@pytest.mark.parametrize("fails", [False, True])
def test_a_native_cancellation_waits_for_the_work(fails: bool) -> None:
    """asyncio's own `wait_for` can't interrupt the work, and gets its time-out afterwards."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("work")
        if fails:
            raise ValueError

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(finish(work), 0.01)
        assert done == ["work"]

    asyncio.run(main())


def test_ctrl_c_in_asyncio_run_waits_for_the_work() -> None:
    """A cancelled main task ends after the work."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append("work")

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        await finish(work)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert done == ["work"]


@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_in_trio_waits_for_the_work(fails: bool) -> None:
    """`KeyboardInterrupt` goes through every shield, and comes after the work all the same; also twice."""
    done: list[str] = []

    async def inner() -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(0.05)

    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(0.05)
        await finish(inner)
        done.append("work")
        if fails:
            raise ValueError

    async def main() -> None:
        await finish(work)
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert done == ["work"]


def test_two_ctrl_c_in_asyncio_run_wait_for_the_work() -> None:
    """The second one ends the event loop, and `asyncio.run` cancels what it finds there: not the work."""
    done: list[str] = []

    async def inner() -> None:
        await asyncio.sleep(0.1)
        done.append("inner")

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for delay in (0.01, 0.02):
            loop.call_later(delay, signal.raise_signal, signal.SIGINT)
        await finish(inner)
        done.append("work")

    async def main() -> None:
        await finish(work)
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert done == ["inner", "work"]
