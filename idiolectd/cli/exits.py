"""Exit codes, and the one place that turns an error into an exit code and a message."""

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
from idiolectd.outcome import Code


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    FAILED = 1
    USAGE = 2  # usage or configuration; systemd does not start the daemon again after it
    LOGIN_REQUIRED = 3
    TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h


# Which of several codes a command exits with: those that need a person come first.
_WORST_FIRST = (ExitCode.USAGE, ExitCode.LOGIN_REQUIRED, ExitCode.FAILED, ExitCode.TRY_LATER, ExitCode.DONE)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Returns the code that a command with these results exits with; without any, `DONE`."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.DONE)


class CommandFailed(IdiolectError):
    """A command can't go on. The message says what is wrong and what to do."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def judged(error: BaseException) -> tuple[ExitCode, str]:
    """Returns an error's exit code and its message (without the program's name)."""
    from idiolectd.log import redact, redacted_traceback  # late: see `idiolectd.cli.options.make_sink`

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
    """Returns the exit code of one of idiolectd's own errors."""
    match error:
        case CommandFailed(code=code):
            return code
        case ConfigError() | DidError():
            return ExitCode.USAGE
        case NoSessionError():
            return ExitCode.LOGIN_REQUIRED
        case LoginError():
            return ExitCode.TRY_LATER if error.passing else ExitCode.FAILED
        case NotSent(code=Code.GUARD):  # the address stays forbidden
            return ExitCode.FAILED
        case LockBusy() | TransportError() | IdentityError(final=False):
            return ExitCode.TRY_LATER
        case _:
            return ExitCode.FAILED
