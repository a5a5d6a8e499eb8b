"""Short work is done on the event loop while the disk is quick, and in threads once it was not."""

import threading
import time

import pytest

from idiolectd.store import in_place
from idiolectd.store.in_place import InPlace

pytestmark = pytest.mark.anyio


async def test_after_slow_work_threads_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow answer, be it an error: what follows runs elsewhere, until the rest is over."""
    monkeypatch.setattr(in_place, "_SLOW", 0.02)
    here, short_work = threading.get_ident(), InPlace()

    def fail_slowly() -> None:
        time.sleep(in_place._SLOW + 0.01)
        raise OSError("slow")

    with pytest.raises(OSError, match="slow"):
        await short_work.run(fail_slowly)
    assert await short_work.run(threading.get_ident) != here
    monkeypatch.setattr(in_place, "_REST", 0.0)
    short_work = InPlace()
    with pytest.raises(OSError, match="slow"):
        await short_work.run(fail_slowly)
    monkeypatch.setattr(in_place, "_SLOW", 3600.0)
    assert await short_work.run(threading.get_ident) == here
