"""The redirect by hand."""

import os
import pty
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from idiolectd.cli.browser.paste import InputEnded, wait_pasted

pytestmark = pytest.mark.anyio

OURS = "state=right&iss=http%3A%2F%2Flocalhost&code=c"


class Asked:
    """The caller's side: what counts, and how often it had to ask again."""

    def __init__(self) -> None:
        self.wrong = 0

    def is_ours(self, query: str) -> bool:
        return query == OURS

    def on_wrong(self) -> None:
        self.wrong += 1

    async def wait(self, fd: int) -> str:
        with anyio.fail_after(10):
            return await wait_pasted(fd, self.is_ours, self.on_wrong)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    with ExitStack() as stack:
        ends = os.pipe()
        for end in ends:
            stack.callback(os.close, end)
        yield ends


@pytest.mark.parametrize(
    "line",
    [
        f"http://127.0.0.1/callback?{OURS}",
        f"  https://app.example/idiolectd?{OURS}#top \r",
        f"127.0.0.1:4711/callback?{OURS}",
        f"?{OURS}",
        OURS,
    ],
)
async def test_what_is_taken(pipe: tuple[int, int], line: str) -> None:
    """The whole address is taken, whichever page it is of, and so is its query alone."""
    os.write(pipe[1], line.encode() + b"\n")
    asked = Asked()
    assert await asked.wait(pipe[0]) == OURS
    assert asked.wrong == 0


async def test_asks_again(pipe: tuple[int, int]) -> None:
    """Something else is told, and the right one is waited for; empty lines are nothing."""
    asked = Asked()
    wrong = [
        "cod-123",
        "http://127.0.0.1/callback",
        "https://issuer.example/authorize?client_id=x",
        "\xe4?=?",
    ]
    os.write(pipe[1], ("\n\n" + "\n".join(wrong) + f"\n{OURS}\n").encode("latin-1"))
    assert await asked.wait(pipe[0]) == OURS
    assert asked.wrong == len(wrong)


async def test_comes_in_pieces(pipe: tuple[int, int]) -> None:
    """A line may arrive in pieces, and after a line that is far too long."""
    asked = Asked()

    async def write() -> None:
        for _ in range(40):
            os.write(pipe[1], b"x" * 1000)
            await anyio.lowlevel.checkpoint()
        os.write(pipe[1], b"\nhttp://127.0.0.1/callback?" + OURS[:7].encode())
        await anyio.sleep(0.05)
        os.write(pipe[1], OURS[7:].encode() + b"\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        assert await asked.wait(pipe[0]) == OURS
    assert asked.wrong == 1


@pytest.mark.parametrize("text", ["", "nothing of it"])
async def test_the_end_of_the_input(tmp_path: Path, text: str) -> None:
    """An input that ends, ends the wait; the last line counts also without its end."""
    path = tmp_path / "input"
    path.write_text(text)
    with path.open("rb") as file, pytest.raises(InputEnded, match="before the address"):
        await Asked().wait(file.fileno())
    path.write_text(text + "\n" + OURS)
    with path.open("rb") as file:
        assert await Asked().wait(file.fileno()) == OURS
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(InputEnded):
            await Asked().wait(nothing)
    finally:
        os.close(nothing)


async def test_a_terminal() -> None:
    """A line that is typed counts; Ctrl-D and a terminal that goes away end the wait."""
    keyboard, terminal = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, terminal)
        os.write(keyboard, f"http://127.0.0.1/callback?{OURS}\n".encode())
        assert await Asked().wait(terminal) == OURS
        os.write(keyboard, b"\x04")
        with pytest.raises(InputEnded):
            await Asked().wait(terminal)
        os.close(keyboard)
        with pytest.raises(InputEnded):
            await Asked().wait(terminal)


async def test_cancelled_at_once(pipe: tuple[int, int]) -> None:
    """A wait that is cancelled takes nothing from the input, and leaves no thread behind."""
    before: set[threading.Thread] = set()
    for _ in range(4):
        with anyio.move_on_after(0.02) as scope:
            await Asked().wait(pipe[0])
        assert scope.cancelled_caught
        # The event loop's own come with the first wait; another test's may end meanwhile.
        before = before or set(threading.enumerate())
    assert set(threading.enumerate()) <= before
    os.write(pipe[1], OURS.encode() + b"\n")
    assert await Asked().wait(pipe[0]) == OURS
