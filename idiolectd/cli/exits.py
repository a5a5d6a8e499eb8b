"""Exit codes, and the one place that turns an error into a code and a line for people."""

from collections.abc import Iterable
from enum import IntEnum

import click

from idiolectd.errors import (
    ConfigError,
    DidError,
    IdentityError,
    IdiolectError,
    LockBusy,
    LoginError,
    NoSessionError,
    NotSent,
    TransportError,
)
from idiolectd.log import redact, redacted_traceback
from idiolectd.outcome import Code


class ExitCode(IntEnum):
    """What a command's end tells a program."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # usage or configuration; systemd does not start the daemon again after it
    LOGIN_REQUIRED = 3
    TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


# Of several ends, which one the command reports: what needs a person first, what passes last.
_WORST_FIRST = (ExitCode.USAGE, ExitCode.LOGIN_REQUIRED, ExitCode.FAILED, ExitCode.TRY_LATER, ExitCode.DONE)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The code that stands for all of them; none at all is `DONE`."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.DONE)


class CommandFailed(IdiolectError):
    """A command can't go on. The message says what was found and what to do."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def judged(error: BaseException) -> tuple[ExitCode, str]:
    """The exit code of an error, and what to say (lines without the program's name)."""
    match error:
        case click.ClickException():
            context = getattr(error, "ctx", None)
            hint = f"\ntry: {context.command_path} --help" if context is not None else ""
            return ExitCode.USAGE, error.format_message() + hint
        case click.Abort() | KeyboardInterrupt():
            return ExitCode.FAILED, "interrupted"
        case IdiolectError():
            return code_of(error), redact(str(error))
        case _:
            return (
                ExitCode.FAILED,
                f"this is a bug in idiolectd, please report it:\n{redacted_traceback(error)}",
            )


def code_of(error: IdiolectError) -> ExitCode:
    """The exit code of an error that was raised on purpose."""
    match error:
        case CommandFailed(code=code):
            return code
        case ConfigError() | DidError():
            return ExitCode.USAGE
        case NoSessionError():
            return ExitCode.LOGIN_REQUIRED
        case LoginError():
            return ExitCode.TRY_LATER if error.passing else ExitCode.FAILED
        case NotSent(code=Code.GUARD):  # the address is forbidden, and will be so later
            return ExitCode.FAILED
        case LockBusy() | TransportError() | IdentityError(final=False):
            return ExitCode.TRY_LATER
        case _:
            return ExitCode.FAILED
