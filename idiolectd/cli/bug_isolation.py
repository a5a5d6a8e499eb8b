"""Isolates an unexpected exception to one account, in every command that works on many accounts.

The exception may come from a library or from a bug of idiolectd. The account's line of the output reports
the bug, standard error gets the redacted traceback, the exit code is 1, and the other accounts go on.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from idiolectd.cli.exits import judged
from idiolectd.cli.output import say
from idiolectd.errors import IdiolectError

T = TypeVar("T")


async def isolate_bug(account: str, work: Callable[[], Awaitable[T]], instead: Callable[[str], T]) -> T:
    """Does one account's work; an unexpected exception becomes its result.

    Args:
        account: its name in messages.
        work: does the work. An `IdiolectError` passes through, for the command to handle. It must not write
            output: an error in writing belongs to no account.
        instead: makes the result from a message, if `work` raised anything else.
    """
    try:
        return await work()
    except IdiolectError:
        raise
    except Exception as error:  # noqa: BLE001 - the other accounts must go on
        _, message = judged(error)
        say(f"{account}: {message}")
        return instead(
            f"a bug in idiolectd ({type(error).__name__}): please report the traceback on standard error"
        )
