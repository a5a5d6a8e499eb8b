"""Hears what client programs say of refused access tokens, and has those sessions looked at.

Whoever may leave a word may leave very many: so each session is asked about at most once a minute, few at a time,
and what there is no room for is dropped. A client whose token is refused again says so again.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it ships no types

from idiolectd.store import Refusals, ToldRefusal
from idiolectd.threads import Errand

# How many words are taken at a time, and how many wait.
_BATCH = 100

# How many sessions are asked about at a time.
_ASKING = 4

# Seconds until a session is asked about again; and of how many that is remembered.
_PAUSE = 60.0
_MOST_REMEMBERED = 10_000

# Seconds between two looks into the folder, if nothing says that there is something; and after a fault.
_LOOK, _LOOK_AFTER_FAULT = 30.0, 2.0

# Seconds between two looks, however many words come: whoever leaves them without end keeps no processor busy.
_BREATH = 0.1


class RefusalListener:
    """Listens to one view's readers.

    Args:
        refusals: where they leave their words.
        look: looks at a session; raises nothing.
    """

    def __init__(self, refusals: Refusals, look: Callable[[ToldRefusal], Awaitable[None]]) -> None:
        self._refusals = refusals
        self._look = look
        self._asked_at: OrderedDict[str, float] = OrderedDict()

    async def run(self) -> None:
        """Listens until it is cancelled."""
        send, receive = anyio.create_memory_object_stream[ToldRefusal](_BATCH)
        async with anyio.create_task_group() as tg, send, receive:
            for _ in range(_ASKING):
                tg.start_soon(self._ask, receive.clone())
            while True:
                try:
                    await Errand(self._refusals.open, "idiolectd-refusals").wait()
                    await self._listen(send)
                except OSError:  # its view is in the same trouble, and told of
                    await anyio.sleep(_LOOK_AFTER_FAULT)

    async def _listen(self, words: MemoryObjectSendStream[ToldRefusal]) -> None:
        with INotify(nonblocking=True) as inotify:
            mask = flags.CREATE | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
            inotify.add_watch(self._refusals.place, mask)
            while True:
                told = await Errand(lambda: self._refusals.take(_BATCH), "idiolectd-refusals").wait()
                for word in told:
                    if self._may_be_asked(word.did):
                        try:
                            words.send_nowait(word)
                        except anyio.WouldBlock:
                            del self._asked_at[word.did]
                if len(told) < _BATCH:
                    with anyio.move_on_after(_LOOK):
                        await anyio.wait_readable(inotify.fileno())
                if any(
                    event.mask & (flags.DELETE_SELF | flags.MOVE_SELF) for event in inotify.read(timeout=0)
                ):
                    return
                await anyio.sleep(_BREATH)

    def _may_be_asked(self, did: str) -> bool:
        now = anyio.current_time()
        if now - self._asked_at.get(did, -_PAUSE) < _PAUSE:
            return False
        self._asked_at[did] = now
        self._asked_at.move_to_end(did)
        if len(self._asked_at) > _MOST_REMEMBERED:
            self._asked_at.popitem(last=False)
        return True

    async def _ask(self, words: MemoryObjectReceiveStream[ToldRefusal]) -> None:
        async with words:
            async for word in words:
                await self._look(word)
