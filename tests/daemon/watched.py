"""`idiolectd run` with a watch on its event loop: which calls into the kernel it makes that can block.

``python -m tests.daemon.watched REPORT``: once the daemon is ready, each call of `_BLOCKING` in the thread
of the event loop is written down, unless `idiolectd.store.in_place` takes its time, and at the end into the file: as JSON, what was called and from where.
Other threads are not looked at: there a call may take its time.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from idiolectd.store.in_place import InPlace

# What waits for a disk, a lock, another process, a name server or a user database, by the module of C.
_BLOCKING = {
    "posix": (
        "open fsync fdatasync stat lstat statvfs listdir scandir readlink access rename replace unlink remove mkdir"
        " rmdir chmod chown truncate link symlink utime sync fchmod fchown ftruncate waitpid system"
    ),
    "io": "open",
    "fcntl": "flock lockf",
    "time": "sleep",
    "_sqlite3": "connect",
    "_posixsubprocess": "fork_exec",
    "_socket": "getaddrinfo gethostbyname getnameinfo",
    "pwd": "getpwnam getpwuid getpwall",
    "grp": "getgrnam getgrgid getgrall",
}
# Methods have no module: reading certificates takes 50 ms.
_NAMES = {f"{module}.{name}" for module, names in _BLOCKING.items() for name in names.split()} | {
    *("load_verify_locations", "set_default_verify_paths", "load_default_certs")
}

# The daemon's note and status line are renewed so often here, instead of every ten seconds.
_STATUS_INTERVAL = 0.5

_found: Counter[str] = Counter()
_is_ready = False


def _watch(frame: FrameType, event: str, arg: Any) -> None:
    global _is_ready
    if event == "c_call":
        name = arg.__name__
        module = getattr(arg, "__module__", None)
        whole = f"{module}.{name}" if module else name
        if _is_ready and whole in _NAMES and not _is_timed(frame):
            _found[f"{whole} from {_ours(frame)}"] += 1
    elif event == "call" and frame.f_code.co_qualname == "Notifier.ready":
        _is_ready = True


def _is_timed(frame: FrameType | None) -> bool:
    """Whether it is short work that moves into a thread by itself once it was slow."""
    while frame is not None:
        if frame.f_code is InPlace.run.__code__:
            return True
        frame = frame.f_back
    return False


def _ours(frame: FrameType | None) -> str:
    """The innermost function of the package that leads there."""
    while frame is not None:
        _, package, inside = frame.f_code.co_filename.rpartition("/idiolectd/")
        if package and "/tests/" not in frame.f_code.co_filename:
            return f"{inside.removesuffix('.py')}: {frame.f_code.co_qualname}"
        frame = frame.f_back
    return "nowhere"


def main(report: Path) -> None:
    """Runs the daemon to its end."""
    from idiolectd.__main__ import main as run
    from idiolectd.daemon import signs_of_life

    signs_of_life.STATUS_INTERVAL = _STATUS_INTERVAL
    sys.argv = ["idiolectd", "run"]
    sys.setprofile(_watch)
    try:
        run()
    finally:
        sys.setprofile(None)
        report.write_text(json.dumps(_found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
