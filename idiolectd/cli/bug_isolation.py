"""Isolates a bug to the account that it was met with, in every command that works on many accounts.

Among a thousand sessions one holds what nobody has thought of: a library's exception, or a bug of ours. That
account's line of the output then says so, standard error holds what is needed to mend it, the exit code
tells, and the work on the other accounts goes on.
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
        account: whose, for people.
        work: what to do. Errors of ours pass through: the command handles them. It
            must not write output: a failure there concerns no account.
        instead: makes the result from a message, if the work met a bug.
    """
    try:
        return await work()
    except IdiolectError:
        raise
    except Exception as error:  # noqa: BLE001 - one account's bug must stay one account's
        _, message = judged(error)
        say(f"{account}: {message}")
        return instead(
            f"a bug in idiolectd ({type(error).__name__}): please report what standard error holds"
        )
