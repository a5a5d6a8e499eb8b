"""Every error has an exit code and one clear message."""

import click
import pytest

from idiolectd.cli.exits import CommandFailed, ExitCode, judged, worst
from idiolectd.errors import (
    ConfigError,
    DidError,
    IdentityError,
    LockBusy,
    LoginError,
    NoSessionError,
    NotSent,
    RecordError,
    StoreError,
    Unclear,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DidError("x"), 2),
        (click.UsageError("x"), 2),
        (click.BadParameter("x"), 2),
        (NoSessionError("did:plc:a"), 3),
        (LockBusy("x"), 75),
        (StoreError("x"), 1),
        (RecordError("file", "x"), 1),
        (NotSent("connect", "x"), 75),
        (NotSent("guard", "x"), 1),
        (Unclear("reset", "x"), 75),
        (IdentityError("x", final=True), 1),
        (IdentityError("x", final=False), 75),
        (LoginError("AuthenticationRequired", "x"), 1),
        (LoginError("RateLimitExceeded", "x", retry_after=3.0), 75),
        (LoginError("server_error", "x", passing=True), 75),
        (CommandFailed(ExitCode.TRY_LATER, "x"), 75),
        (KeyboardInterrupt(), 1),
        (click.Abort(), 1),
        (RuntimeError("x"), 1),
    ],
)
def test_codes(error: BaseException, code: int) -> None:
    """The exit codes are the documented ones, 0, 1, 2, 3 and 75, and there is always something to say."""
    found, message = judged(error)
    assert int(found) == code
    assert message.strip()


def test_expected_errors_have_no_traceback() -> None:
    """An error that was raised on purpose is its message and nothing else."""
    assert judged(StoreError("the disk is full"))[1] == "the disk is full"


def test_unexpected_errors_are_redacted() -> None:
    """A bug shows where it is, and no values."""

    def broken(token: str) -> None:
        raise ValueError(f"refused {token}")

    with pytest.raises(ValueError, match="refused") as raised:
        broken("eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl")
    _, message = judged(raised.value)
    assert "a bug in idiolectd" in message
    assert f"{__file__}:" in message
    assert "eyJ" not in message


def test_worst() -> None:
    """Of several ends the one is told that needs a person most."""
    done, failed, login, later = ExitCode.DONE, ExitCode.FAILED, ExitCode.LOGIN_REQUIRED, ExitCode.TRY_LATER
    assert worst([]) is done
    assert worst([done, later]) is later
    assert worst([later, failed, done]) is failed
    assert worst([later, failed, login, done]) is login
