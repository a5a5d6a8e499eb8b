"""`status --watch` on a terminal of its own."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Pds, Run, put_record


class Terminal:
    """A terminal on which a command runs."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "idiolectd", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.set_blocking(self._ours, False)
        self.seen = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Reads until it was written; returns what was."""
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.seen, re.DOTALL):
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self._ours, 65536).decode("utf-8", "replace")
            except BlockingIOError:
                time.sleep(0.02)
        found, self.seen = self.seen, ""
        return found

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        return self.process.wait(60)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(environ: dict[str, str], pds: Pds, store: Path) -> Iterator[Terminal]:
    put_record(store, pds.account("watched.test", oauth=1)["oauth"][0])
    found = Terminal(environ, "status", "--watch")
    yield found
    found.close()


ENTER, LEAVE = r"\x1b\[\?1049h", r"\x1b\[\?1049l"


def test_it_is_live_and_ends_with_q(terminal: Terminal, pds: Pds, store: Path) -> None:
    """On the alternate screen, with a bar; it shows a new session, follows the size, and leaves no trace."""
    first = terminal.wait_for(ENTER + ".*watched.test.*q quits")
    assert "█" in first
    assert "nobody refreshes these sessions" in first
    put_record(store, pds.account("another.test", oauth=1)["oauth"][0])
    later = terminal.wait_for("2 sessions.*another.test")
    assert "\x1b[2J" not in later  # a screen that is cleared first would flicker
    terminal.resize(12, 60)
    terminal.wait_for("HANDLE +STATE +EXPIRES +NEXT(?! +LAST).*q quits")
    terminal.type("q")
    terminal.wait_for(LEAVE)
    assert terminal.end() == 0
    assert terminal.is_as_before()


def test_ctrl_c_is_no_failure(terminal: Terminal) -> None:
    """It ends as with q."""
    terminal.wait_for(ENTER + ".*q quits")
    terminal.type("\x03")
    terminal.wait_for(LEAVE)
    assert terminal.end() == 0
    assert terminal.is_as_before()


def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    """SIGTERM too."""
    terminal.wait_for(ENTER + ".*q quits")
    terminal.process.terminate()
    terminal.wait_for(LEAVE)
    assert terminal.end() == 1
    assert terminal.is_as_before()


def test_into_a_pipe_it_is_refused(run: Run) -> None:
    """Nobody could end it there; nor is there JSON of it."""
    assert run("status", "--watch").code == 2
    assert run("status", "--watch", "--json").code == 2
