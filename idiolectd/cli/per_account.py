"""One account's work, kept apart from the others': a bug that it meets becomes its own line of the output.

For every command that works on many accounts. Whoever holds a thousand sessions meets in one of them what
nobody has thought of: an exception of a library's, or a bug of ours. The others' work goes on, the exit
code tells, and standard error holds what is needed to mend it.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from idiolectd.cli.exits import judged
from idiolectd.cli.output import say
from idiolectd.errors import IdiolectError

T = TypeVar("T")


async def kept_apart(account: str, work: Callable[[], Awaitable[T]], instead: Callable[[str], T]) -> T:
    """Does one account's work.

    Args:
        account: whose, for people.
        work: what to do. Errors that are raised on purpose pass through: the command knows them. It
            writes no output: that this fails is no account's trouble.
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
