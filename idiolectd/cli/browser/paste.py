"""Reads the address of the browser's last page, which a person pastes.

Reads from a terminal, a pipe or a file, and leaves no thread behind when the wait is cancelled. Accepts the
whole address or only its query. The caller's `is_ours` decides whether it belongs to this login.
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
    """Standard input ended before the address was pasted."""

    def __init__(self) -> None:
        super().__init__(
            ExitCode.FAILED, "the input ended before the address of the browser's last page was pasted"
        )


async def wait_pasted(stream_fd: int, is_ours: Callable[[str], bool], on_wrong: Callable[[], None]) -> str:
    """Waits for a line with the redirect of this login; returns its raw query.

    Args:
        stream_fd: the descriptor to read from; it is neither closed nor changed.
        is_ours: returns whether a raw query belongs to this login.
        on_wrong: called for each other line, to ask again.

    Raises:
        InputEnded: the input ended.
    """
    unread, ended = b"", False
    while not ended:
        data = await _read(stream_fd)
        ended = not data
        *lines, unread = (unread + data).split(b"\n")
        if ended:
            lines.append(unread)  # the last line may lack its newline
        for line in lines:
            text = line.decode(errors="replace").strip()
            query = _query(text)
            if query and is_ours(query):
                return query
            if text:
                on_wrong()
        unread = unread[:_MAX_LINE]  # a longer line is no address; cutting it bounds the memory
    raise InputEnded


def _query(address: str) -> str:
    """Returns the part after the question mark, or the whole text if there is none."""
    before, mark, after = address.partition("#")[0].partition("?")
    return after if mark else before


async def _read(fd: int) -> bytes:
    """Waits for data and returns it; empty: the input ended."""
    while True:
        try:
            await anyio.wait_readable(fd)
        except OSError as error:
            if error.errno != errno.EPERM:
                return b""
            await anyio.lowlevel.checkpoint()  # a regular file: always readable, epoll refuses it
        try:
            return os.read(fd, 4096)
        except BlockingIOError:  # another program on this terminal was faster
            continue
        except OSError:  # the terminal is gone
            return b""
