"""Runs several writes at once, so that they share what waits for the disk.

A write is a generator: it prepares its new files, yields what has to be durable before it may go on, and goes on
when it is. So each write reads like one that is alone, and the order of its own steps stays what it says; but
all writes prepare their files before the first is synced (a journaling file system then makes most of them
durable with the first), and a folder is synced once for all that was renamed in it. One thread that does so
one after the other is as quick as many, at half the CPU.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from idiolectd.errors import IdiolectError
from idiolectd.store.durable import NewFile, sync_folder

T = TypeVar("T")
StepT = TypeVar("StepT")

# What must be durable: the content of new files, or the names in a folder.
Step = Sequence[NewFile] | Path

Write = Generator[Step, None, T]


class _Running(Generic[T]):
    """A write that is under way.

    Attributes:
        step: what it waits for; None: it has ended.
        answer: what it returned, or the error that ended it.
    """

    answer: T | Exception

    def __init__(self, write: Write[T]) -> None:
        self._write = write
        self.step: Step | None = None
        self.go_on(None)

    def go_on(self, failed: OSError | None) -> None:
        """Lets it do its next step, or raises in it why the last one can't be made durable."""
        try:
            if failed is None:
                self.step = next(self._write)
            else:  # a new exception: raised in many writes, one would collect all their frames
                self.step = self._write.throw(OSError(failed.errno, failed.strerror, failed.filename))
        except StopIteration as end:
            self.step, self.answer = None, end.value
        except (OSError, IdiolectError) as error:
            self.step, self.answer = None, error


def run_together(writes: Sequence[Write[T]]) -> list[T | Exception]:
    """Runs writes that touch no file in common; returns what each of them returned, or its error. Blocks.

    What can't be made durable ends the writes that wait for it, and no other.
    """
    running = [_Running(write) for write in writes]
    while waiting := [(each, each.step) for each in running if each.step is not None]:
        folders = {step for _, step in waiting if isinstance(step, Path)}
        lost = {folder: failed for folder in folders if (failed := _failure(sync_folder, folder))}
        failures = [
            lost.get(step) if isinstance(step, Path) else _failure(_sync_all, step) for _, step in waiting
        ]
        for (each, _), failed in zip(waiting, failures, strict=True):
            each.go_on(failed)
    return [each.answer for each in running]


def _sync_all(files: Sequence[NewFile]) -> None:
    for new in files:
        new.sync()


def _failure(sync: Callable[[StepT], None], step: StepT) -> OSError | None:
    """Makes a step durable; returns why it can't be."""
    try:
        sync(step)
    except OSError as error:
        return error
    return None
