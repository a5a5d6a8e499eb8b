"""Group commit: operations that wait at the same time are made durable together.

While some operations are being committed, further ones queue up. The first of their callers then commits all
of them (up to a bound), and each of the others is woken once, with its answer. With one caller at a time each operation is
committed alone and at once; under load a hundred refreshes cost hardly more fsyncs than one. An operation
whose caller has stopped waiting is committed all the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from idiolectd.errors import IdiolectError, StoreError

OperationT = TypeVar("OperationT")
AnswerT = TypeVar("AnswerT")


@dataclass(eq=False)
class _Ticket(Generic[OperationT, AnswerT]):
    operation: OperationT
    answer: AnswerT | Exception | None = None
    # Set with the answer, or when it is this caller's turn to commit; None: nobody waits for it.
    woken: anyio.Event | None = None


class GroupCommit(Generic[OperationT, AnswerT]):
    """Gathers operations. See the module.

    Args:
        apply: does some of them together, each with an answer of its own, which may be an error; or raises and
            has done none.
        most: how many at a time: a fraction of a second's work. Other processes wait for it.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[OperationT]], Awaitable[Sequence[AnswerT | Exception]]],
        *,
        most: int = 250,
    ) -> None:
        self._apply = apply
        self._most = most
        self._is_committing = False
        self._waiting: list[_Ticket[OperationT, AnswerT]] = []

    async def do(self, operation: OperationT) -> AnswerT:
        """Does one operation, sooner or later with others. Not to be cancelled."""
        ticket = _Ticket[OperationT, AnswerT](operation)
        self._waiting.append(ticket)
        if self._is_committing:
            ticket.woken = anyio.Event()
            await ticket.woken.wait()
        if ticket.answer is None:
            self._is_committing = True
            try:
                await anyio.lowlevel.checkpoint()  # whoever is about to ask joins
                while ticket.answer is None:
                    await self._do_some()
            finally:
                self._pass_on()
        if isinstance(ticket.answer, Exception):
            raise ticket.answer
        return ticket.answer

    def _pass_on(self) -> None:
        """Lets the next caller commit, if one waits."""
        self._is_committing = bool(self._waiting)
        if self._waiting and self._waiting[0].woken is not None:
            self._waiting[0].woken.set()

    async def _do_some(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            answers = await self._apply([ticket.operation for ticket in batch])
        except IdiolectError as error:
            for ticket in batch:
                # One exception for each: raised in many tasks, one would collect all their frames.
                ticket.answer = type(error)(*error.args)
                ticket.answer.__cause__ = error.__cause__
        except BaseException:
            for ticket in batch:  # nobody must wait for an answer that won't come
                ticket.answer = StoreError("not written: another write that shared its commit crashed")
            raise
        else:
            for ticket, answer in zip(batch, answers, strict=True):
                ticket.answer = answer
        finally:
            for ticket in batch:
                if ticket.woken is not None:
                    ticket.woken.set()
