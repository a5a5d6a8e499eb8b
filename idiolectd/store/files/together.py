"""Runs several writes at once, so that they share what waits for the disk.

A write is a generator: it prepares its new files, yields what has to be durable before it may go on, and goes on
when it is. So each write reads like one that is alone, and the order of its own steps stays what it says; but
the new files of all writes are synced at the same time, so that they share the file system's commits, and a folder is
synced once for all that was renamed in it.
"""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from idiolectd.errors import IdiolectError
from idiolectd.store.durable import NewFile, sync_folder

T = TypeVar("T")
StepT = TypeVar("StepT")

# How many files are synced at a time.
_AT_ONCE = 4

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
        unwritten = _sync_at_once([new for _, step in waiting if not isinstance(step, Path) for new in step])
        for each, step in waiting:
            if isinstance(step, Path):
                each.go_on(lost.get(step))
            else:
                each.go_on(next((unwritten[new] for new in step if new in unwritten), None))
    return [each.answer for each in running]


def _sync_at_once(files: Sequence[NewFile]) -> dict[NewFile, OSError]:
    """Makes the content of new files durable; returns why that of some can't be.

    On a busy disk each sync waits for a commit of the file system. Four threads that wait are three times as quick
    as one, and more threads are no quicker.
    """
    unwritten: dict[NewFile, OSError] = {}

    def sync(some: Sequence[NewFile]) -> None:
        for new in some:
            failed = _failure(NewFile.sync, new)
            if failed is not None:
                unwritten[new] = failed

    count = min(_AT_ONCE, (len(files) + 1) // 2)  # for one of two files a thread costs more than it brings
    shares = [files[start::count] for start in range(count)]
    threads = []
    for share in shares[1:]:
        thread = Thread(target=sync, args=(share,), name="idiolectd-sync")
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            sync(share)
        else:
            threads.append(thread)
    for share in shares[:1]:
        sync(share)
    for thread in threads:
        thread.join()
    return unwritten


def _failure(sync: Callable[[StepT], None], step: StepT) -> OSError | None:
    """Makes something durable; returns why it can't be."""
    try:
        sync(step)
    except OSError as error:
        return error
    return None
