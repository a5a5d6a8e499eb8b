"""Where a command's words go: results to standard output, everything else to standard error.

The one place that writes to either. JSON is ASCII, so it is the same bytes in every locale. Text is in the
terminal's encoding, and what that lacks is escaped. Nothing that came from a server or a record moves a
cursor. Output that can't be written is said, and ends the command; a lost line on standard error does not.
"""

import errno
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.foreign import json_text, printable

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def say(text: str) -> None:
    """A line for the person at the terminal; never part of the output."""
    for line in text.splitlines():
        _tell(f"idiolectd: {printable(line)}\n")


def show(text: str) -> None:
    """A line for the person to copy, alone between two empty ones."""
    _tell(f"\n    {printable(text)}\n\n")


def put(text: str) -> None:
    """A line of the output."""
    put_page(printable(text) + "\n")


def put_page(text: str) -> None:
    """Lines of the output that hold nothing from elsewhere, or only what is printable.

    Raises:
        CommandFailed: it can't be written.
        BrokenPipeError: nobody reads it any more.
    """
    _put(text.encode(encoding(), "backslashreplace"))


def put_json(value: Any) -> None:
    """The whole output of a command, for programs. Raises as `put_page`."""
    _put(f"{json_text(value, indent=2)}\n".encode("ascii"))


def put_document(text: str) -> None:
    """The whole output of a command: a file in UTF-8. Raises as `put_page`."""
    _put(text.encode())


def encoding() -> str:
    """The encoding of text on standard output."""
    return sys.stdout.encoding or "utf-8"


def open_missing_streams() -> None:
    """Opens the standard streams that the caller has closed, for reading nothing and for writing nowhere.

    Else the next file that is opened, a database say, would get their number, and everybody's words.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # Standard output refuses what is written, so that it is said and not lost.
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a number


def silence_stdout() -> None:
    """Lets the interpreter flush what is left into nothing, instead of complaining at its end."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def ago(seconds: float) -> str:
    """A distance in time, coarse: ``in 42m``, ``3d ago``, ``now``."""
    size = abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        # Two of the larger unit read better than one: 90 minutes, 36 hours.
        if size >= (2 * length if length > 60 else length):
            amount = f"{size // length:.0f}{unit}"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return "now"


def joined(words: Iterable[str]) -> str:
    """A list in a sentence."""
    return ", ".join(words)


def _put(data: bytes) -> None:
    try:
        _write(sys.stdout, data)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        silence_stdout()
        found = error.errno if isinstance(error, OSError) else errno.EBADF
        if found == errno.EBADF:
            raise CommandFailed(ExitCode.FAILED, "standard output is closed: the result is lost") from None
        todo = "; free some disk space" if found in _NO_SPACE else ""
        reason = os.strerror(found) if found else "it is refused"
        raise CommandFailed(ExitCode.FAILED, f"can't write to standard output: {reason}{todo}") from None


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        _write(sys.stderr, text.encode(sys.stderr.encoding or "utf-8", "backslashreplace"))


def _write(stream: TextIO, data: bytes) -> None:
    stream.flush()
    if isinstance(stream, io.TextIOWrapper):
        stream.buffer.write(data)
    else:  # a program that has put a stream of its own there
        stream.write(data.decode(stream.encoding or "utf-8"))
    stream.flush()
