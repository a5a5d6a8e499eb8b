"""Group commit: operations that wait at the same time share one transaction, and so one fsync.

While one transaction is being committed, further operations queue up. The first of their callers then
commits all of them (at most `_MOST`), and the others wait for the answer. With one caller at a time each
operation is committed alone and at once; under load a hundred refreshes cost hardly more fsyncs than one. An
operation whose caller has stopped waiting is committed all the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from idiolectd.errors import IdiolectError, StoreError
from idiolectd.ports import Committed
from idiolectd.store.sqlite.operations import Operation
from idiolectd.store.sqlite.writer import Answer

# The operations of one transaction: a fraction of a second's work. Other processes wait for it.
_MOST = 250


@dataclass(eq=False)
class _Ticket:
    operation: Operation
    answer: Answer | IdiolectError | None = None


class GroupCommit:
    """Gathers operations into transactions. See the module.

    Args:
        apply: does some of them together, each with an answer of its own; or raises and has done none.
    """

    def __init__(self, apply: Callable[[Sequence[Operation]], Awaitable[Sequence[Answer]]]) -> None:
        self._apply = apply
        self._turn = anyio.Lock()
        self._waiting: list[_Ticket] = []

    async def do(self, operation: Operation) -> Committed:
        """Does one operation, sooner or later with others. Not to be cancelled."""
        ticket = _Ticket(operation)
        self._waiting.append(ticket)
        async with self._turn:
            while ticket.answer is None:
                await self._do_some()
        if isinstance(ticket.answer, Exception):
            raise ticket.answer
        return ticket.answer

    async def _do_some(self) -> None:
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        try:
            answers = await self._apply([ticket.operation for ticket in batch])
        except IdiolectError as error:
            for ticket in batch:
                # One exception for each: raised in many tasks, one would collect all their frames.
                ticket.answer = type(error)(*error.args)
                ticket.answer.__cause__ = error.__cause__
        except BaseException:
            for ticket in batch:  # nobody must wait for an answer that won't come
                ticket.answer = StoreError("not written: another write of the same transaction crashed")
            raise
        else:
            for ticket, answer in zip(batch, answers, strict=True):
                ticket.answer = answer
