"""The stores work in threads of their own."""

import anyio
import anyio.to_thread
import pytest

from idiolectd.ports import Committed
from tests.store.support import ALICE, Opener, rotated, session


@pytest.mark.anyio
async def test_nobody_elses_threads_are_needed(opening_shared: Opener) -> None:
    """With all of the event loop's usual threads busy for ever, every operation goes on."""
    usual = anyio.to_thread.current_default_thread_limiter()
    busy = range(int(usual.total_tokens))
    for number in busy:
        usual.acquire_on_behalf_of_nowait(number)
    was_needed = False

    async def free_them() -> None:
        nonlocal was_needed
        try:
            await anyio.sleep(10)
            was_needed = True  # what waits for a thread can't be cancelled
        finally:
            for number in busy:
                usual.release_on_behalf_of(number)

    async with anyio.create_task_group() as tg:
        tg.start_soon(free_them)
        async with opening_shared() as store, store.watch() as watch:
            await store.save(session())
            assert ALICE in await watch.wait_changed()
            async with store.claim(ALICE, patience=0):
                await store.ensure_room()
                assert await store.claim_holder(ALICE) is None
                entry = await store.read(ALICE)
                assert entry.session is not None
                new, state = rotated(entry.session, entry.state, 2)
                assert await store.commit(entry.session, state, tokens=new) is Committed.DONE
            assert await store.list_dids() == [ALICE]
            assert await store.count() == 1
            assert await store.load(ALICE) is not None
            await store.delete(ALICE)
        tg.cancel_scope.cancel()
    assert not was_needed
