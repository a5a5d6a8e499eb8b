"""The redirect by hand: a person copies the address of the last page out of the browser.

Reads from a terminal, a pipe or a file, and leaves no thread behind when the wait is cancelled. Takes
the whole address, or only its query. Does not judge what a redirect says; whether it belongs to this
login, the caller's `is_ours` decides.
"""

import errno
import os
from collections.abc import Callable

import anyio
import anyio.lowlevel

from idiolectd.cli.exits import CommandFailed, ExitCode

# Longer lines are no addresses. A terminal gives 4 KiB at most; a redirect has some hundred bytes.
_MAX_LINE = 16 * 1024


class InputEnded(CommandFailed):
    """Nothing more will be pasted."""

    def __init__(self) -> None:
        super().__init__(
            ExitCode.FAILED, "the input ended before the address of the browser's last page was pasted"
        )


async def wait_pasted(stream_fd: int, is_ours: Callable[[str], bool], on_wrong: Callable[[], None]) -> str:
    """Waits for a line with a redirect of this login; returns its raw query.

    Args:
        stream_fd: the descriptor to read from; it is neither closed nor changed.
        is_ours: whether a raw query is the one of this login.
        on_wrong: told of each line that is something else, to ask again.

    Raises:
        InputEnded: the input is at its end.
    """
    unread, ended = b"", False
    while not ended:
        data = await _read(stream_fd)
        ended = not data
        *lines, unread = (unread + data).split(b"\n")
        if ended:
            lines.append(unread)  # the last line needs no end
        for line in lines:
            text = line.decode(errors="replace").strip()
            query = _query(text)
            if query and is_ours(query):
                return query
            if text:
                on_wrong()
        unread = unread[:_MAX_LINE]  # what is too long is no address, and costs no memory
    raise InputEnded


def _query(address: str) -> str:
    """What stands behind the question mark; all of it if there is none."""
    before, mark, after = address.partition("#")[0].partition("?")
    return after if mark else before


async def _read(fd: int) -> bytes:
    """What is there; waits until something is. Empty: the end."""
    while True:
        try:
            await anyio.wait_readable(fd)
        except OSError as error:
            if error.errno != errno.EPERM:
                return b""
            await anyio.lowlevel.checkpoint()  # a file on disk: always readable, and nothing to wait for
        try:
            return os.read(fd, 4096)
        except BlockingIOError:  # another program on this terminal was faster
            continue
        except OSError:  # the terminal is gone
            return b""
