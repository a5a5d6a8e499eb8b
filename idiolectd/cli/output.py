"""Writes a command's results to standard output, and all other messages to standard error.

No other module writes to either. JSON is ASCII, so it is the same bytes in every locale. Text is in the
terminal's encoding; characters that it lacks are escaped, and so are control characters, which may come from
a server or a record. An error on standard output ends the command with a message; one on standard error is
ignored.
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
    """Writes a message for the person at the terminal to standard error."""
    for line in text.splitlines():
        _tell(f"idiolectd: {printable(line)}\n")


def show(text: str) -> None:
    """Writes a line for the person to copy, between two empty lines, to standard error."""
    _tell(f"\n    {printable(text)}\n\n")


def put(text: str) -> None:
    """Writes a line of the output. Raises as `put_page`."""
    put_page(printable(text) + "\n")


def put_page(text: str) -> None:
    """Writes lines of the output as they are: the caller has escaped control characters.

    Raises:
        CommandFailed: they can't be written.
        BrokenPipeError: the reader has closed the pipe.
    """
    _put(text.encode(encoding(), "backslashreplace"))


def put_json(value: Any) -> None:
    """Writes the whole output of a command as JSON. Raises as `put_page`."""
    _put(f"{json_text(value, indent=2)}\n".encode("ascii"))


def put_document(text: str) -> None:
    """Writes the whole output of a command: a document in UTF-8. Raises as `put_page`."""
    _put(text.encode())


def encoding() -> str:
    """Returns the encoding of text on standard output."""
    return sys.stdout.encoding or "utf-8"


def open_missing_streams() -> None:
    """Opens ``/dev/null`` for each standard stream that the caller has closed.

    Otherwise the next file that is opened, such as a database, would get its descriptor and be written to.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # Standard output is opened for reading only: writing fails, and the lost output is reported.
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a number


def silence_stdout() -> None:
    """Redirects standard output to ``/dev/null``, so that the interpreter's last flush does not fail."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def ago(seconds: float) -> str:
    """Formats a time relative to now, roughly: ``in 42m``, ``3d ago``, ``now``; `seconds` < 0: the past."""
    size = abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        # Two of the larger unit read better than one: 90 minutes, 36 hours.
        if size >= (2 * length if length > 60 else length):
            amount = f"{size // length:.0f}{unit}"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return "now"


def joined(words: Iterable[str]) -> str:
    """Joins words with commas."""
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
    else:  # a caller has replaced the stream by one of its own
        stream.write(data.decode(stream.encoding or "utf-8"))
    stream.flush()
