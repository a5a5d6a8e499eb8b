"""``idiolectd`` under a profiler that counts what a processor's speed does not change.

    python -m bench.counted FILE ARGUMENT...

Upon SIGUSR2 the counts so far are written to FILE, as JSON. Counted are, in all threads:

- calls: of Python functions, and resumptions of coroutines and generators;
- hops: work that one thread hands to another, or an answer that comes back;
- statements: that SQLite was given;
- texts: that were read as JSON, or written;
- URLs: that were parsed;
- syncs: fsync and fdatasync; locks: on ranges of files, taken, freed or asked for. Both if `syncs.c` is preloaded.
"""

import ctypes
import json
import os
import queue
import signal
import sqlite3
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

# The functions, by module and name, that stand for something.
_PYTHON = {
    ("trio._core._thread_cache", "start_thread_soon"): "hops",
    ("trio._core._entry_queue", "run_sync_soon"): "hops",
    ("asyncio.base_events", "call_soon_threadsafe"): "hops",
    ("threading", "start"): "hops",
    ("json.decoder", "decode"): "texts",
    ("json.encoder", "encode"): "texts",
    ("urllib.parse", "urlsplit"): "URLs",
    ("httpx._urlparse", "urlparse"): "URLs",
    ("idiolectd.url", "parse"): "URLs",
}
_SQLITE = (sqlite3.Connection, sqlite3.Cursor)
_STATEMENTS = frozenset({"execute", "executemany", "executescript", "commit", "rollback"})


class Counts:
    """What was called; each thread counts for itself."""

    def __init__(self) -> None:
        self._of_threads: dict[int, Counter[str]] = {}

    def start(self) -> None:
        """Counts from now on, in this thread and all that will be started."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def write(self, path: Path) -> None:
        """Writes what has been counted; whoever waits for the file finds it whole."""
        total: Counter[str] = Counter()
        for counts in list(self._of_threads.values()):
            total.update(counts)
        for what in ("syncs", "locks"):
            if (so_far := getattr(ctypes.CDLL(None), f"{what}_so_far", None)) is not None:
                so_far.restype = ctypes.c_ulong
                total[what] = so_far()
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(total))
        unfinished.rename(path)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            mine = self._mine()
            mine["calls"] += 1
            kind = _PYTHON.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
            if kind is not None:
                mine[kind] += 1
        elif event == "c_call":
            kind = _kind_of(called)
            if kind is not None:
                self._mine()[kind] += 1

    def _mine(self) -> Counter[str]:
        return self._of_threads.setdefault(threading.get_ident(), Counter())


def _kind_of(called: Any) -> str | None:
    """What the call of a function that is written in C stands for."""
    owner = getattr(called, "__self__", None)
    if isinstance(owner, _SQLITE) and called.__name__ in _STATEMENTS:
        return "statements"
    if isinstance(owner, queue.SimpleQueue) and called.__name__ == "put":
        return "hops"
    if type(owner).__module__.startswith("msgspec") and called.__name__ in {"decode", "encode"}:
        return "texts"
    return None


def main() -> None:
    path = Path(sys.argv.pop(1))
    os.environ.pop("LD_PRELOAD", None)  # for this process only
    counts = Counts()
    signal.signal(signal.SIGUSR2, lambda *_: counts.write(path))
    counts.start()
    from idiolectd.__main__ import main as idiolectd

    idiolectd()


if __name__ == "__main__":
    main()
