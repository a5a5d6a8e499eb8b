"""``idiolectd status --watch``: the status page on the alternate screen, read again and again until ``q``.

A frame is written in one piece over the one before, so nothing flickers. It is as large as the terminal at that
moment. Whatever ends it, the terminal is as it was before.
"""

import io
import os
import signal
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, redirect_stderr

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from idiolectd.cli.status_page import head, table
from idiolectd.cli.status_problems import what_to_do
from idiolectd.cli.status_report import StatusReport
from idiolectd.cli.status_text import Canvas
from idiolectd.cli.tables import is_ascii_only
from idiolectd.errors import StoreError
from idiolectd.foreign import printable
from idiolectd.remedy import Commands

_INTERVAL = 1.0  # seconds between two readings

# A store that takes long to read is read so many times as long apart: watching takes a tenth of a core at most.
_SHARE = 10

_QUIT = ("q", "Q", "\x03", "\x04")  # Ctrl-C and Ctrl-D
_MOVES = {"j": 1, "k": -1, "\x1b[B": 1, "\x1b[A": -1, " ": 10, "b": -10, "\x1b[6~": 10, "\x1b[5~": -10}

_BAR = 20  # columns at most; on a narrow terminal the names come first


async def watch(read: Callable[[], Awaitable[StatusReport]], *, start: str, commands: Commands) -> None:
    """Shows the page until a person ends it.

    Args:
        read: reads the report.
        start: the command that starts the daemon.
        commands: how commands are typed that find this store.

    Raises:
        StoreError: the store can't be read at the beginning; later that is shown.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    screen = _Screen(await read(), start=start, commands=commands)
    with (
        _keys_one_by_one(),
        redirect_stderr(io.StringIO()),  # warnings of the store: plain `status` shows them
        Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live,
    ):

        def draw() -> None:
            size = console.size
            live.update(Group(*screen.frame(size.width, size.height)), refresh=True)

        async with anyio.create_task_group() as tg:
            tg.start_soon(_follow_size, draw)
            tg.start_soon(_follow_store, screen, read, draw)
            draw()
            await _follow_keys(screen, draw)
            tg.cancel_scope.cancel()


class _Screen:
    """What is on the screen.

    Attributes:
        report: what was read last.
        trouble: why it could not be read again.
        offset: how many sessions the table is scrolled down.
    """

    def __init__(self, report: StatusReport, *, start: str, commands: Commands) -> None:
        self.report = report
        self.trouble: str | None = None
        self.offset = 0
        self._start = start
        self._commands = commands

    def frame(self, width: int, height: int) -> Iterator[Text]:
        """Yields as many lines as the terminal is high, at most."""
        rows = self.report.sessions
        canvas = Canvas(width, is_ascii_only())
        top = list(head(self.report, canvas))
        todo = list(what_to_do(self.report, canvas, start=self._start, commands=self._commands))
        room = max(2, height - len(top) - 3)  # without the empty lines and the last one
        below = min(len(todo), max(room - len(rows) - 2, room // 3))
        shown = max(1, room - below - 1)
        self.offset = max(0, min(self.offset, len(rows) - shown))
        visible = rows[self.offset : self.offset + shown]
        lines = [*top, Text()]
        lines += table(visible, self.report, canvas, bars=min(_BAR, max(0, width - 60) // 3))
        lines += [Text(), *todo[:below]][: max(0, height - 1 - len(lines))]
        lines += [Text()] * (height - 1 - len(lines))
        for line in lines[: height - 1]:
            yield _fitted(line, width)
        yield Text(self._last_line(len(visible), canvas)[:width], style="reverse", no_wrap=True)

    def _last_line(self, visible: int, canvas: Canvas) -> str:
        if self.trouble is not None:
            return printable(f" q quits   {self.trouble}")
        rows = len(self.report.sessions)
        if visible >= rows:
            return " q quits"
        arrows = "j k" if canvas.ascii_only else "↑ ↓"
        return f" q quits   {arrows} moves   {self.offset + 1:,} to {self.offset + visible:,} of {rows:,}"


def _fitted(line: Text, width: int) -> Text:
    """Returns a line that fits; half a command would be worse than none."""
    if line.cell_len <= width:
        return line
    if line.plain.startswith("    "):
        return Text("    (too long for here: idiolectd status shows it whole)"[:width])
    line.truncate(width)
    return line


async def _follow_store(
    screen: _Screen, read: Callable[[], Awaitable[StatusReport]], draw: Callable[[], None]
) -> None:
    took = 0.0
    while True:
        await anyio.sleep(max(_INTERVAL, _SHARE * took))
        began = anyio.current_time()
        try:
            screen.report = await read()
        except StoreError as error:
            screen.trouble = str(error)
        else:
            screen.trouble = None
        took = anyio.current_time() - began
        draw()


async def _follow_size(draw: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGWINCH) as resized:
        async for _ in resized:
            draw()


async def _follow_keys(screen: _Screen, draw: Callable[[], None]) -> None:
    """Returns when a person, or the end of the terminal, ends it."""
    descriptor = sys.stdin.fileno()
    while True:
        await anyio.wait_readable(descriptor)
        keys = os.read(descriptor, 64).decode("ascii", "replace")
        if not keys or any(key in keys for key in _QUIT):
            return
        screen.offset += sum(keys.count(key) * move for key, move in _MOVES.items())
        draw()


@contextmanager
def _keys_one_by_one() -> Iterator[None]:
    """Lets keys be read when they are typed, Ctrl-C too, and not be shown."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        attributes = termios.tcgetattr(descriptor)
        attributes[3] &= ~termios.ISIG
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
