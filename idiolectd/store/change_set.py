"""The changes that a watch still has to name: a set that can be waited for."""

from collections.abc import Iterable
from itertools import islice

import anyio
import anyio.lowlevel

from idiolectd.ports import FULL_BATCH


class ChangeSet:
    """DIDs to be looked at, without order and each once. A `Watch` for whoever fills it with `add`.

    An answer that holds fewer than `FULL_BATCH` names has told everything that was known by then: after
    a full one the next call returns at once, if need be with nothing. So does the first.
    """

    def __init__(self, first: Iterable[str]) -> None:
        self._dids = dict.fromkeys(first)
        self._more = True
        self._filled = anyio.Event()

    def __len__(self) -> int:
        return len(self._dids)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has an answer, be it an empty one."""
        return self._more or bool(self._dids)

    def add(self, dids: Iterable[str]) -> None:
        """Names DIDs that changed. Not from another thread."""
        self._dids.update(dict.fromkeys(dids))
        if self._dids:
            self._filled.set()

    def answer(self) -> None:
        """Has the next call return at once, if need be with nothing: everything is known anew."""
        self._more = True

    def take(self) -> list[str]:
        """The next answer."""
        batch = list(islice(self._dids, FULL_BATCH))
        for did in batch:
            del self._dids[did]
        self._more = len(batch) == FULL_BATCH
        return batch

    async def wait_changed(self) -> list[str]:
        """See `idiolectd.ports.Watch.wait_changed`."""
        await anyio.lowlevel.checkpoint()
        while not self.is_ready:
            self._filled = anyio.Event()
            await self._filled.wait()
        return self.take()
