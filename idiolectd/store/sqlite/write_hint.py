"""Wakes whoever watches a database when somebody may have written to it.

The kernel reports writes to the files (inotify(7)). That is a hint and no more: it comes before the commit can be
seen, a database on some file systems makes none, and there may be no watch left for us. So whoever waits looks
now and then without one, too.
"""

from pathlib import Path

import anyio
from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # it ships no types

# What a commit writes: the log of a WAL database, and the database itself of another one. Either may be made anew.
_WRITTEN = flags.MODIFY | flags.CREATE | flags.MOVED_TO
_SUFFIXES = ("", "-wal", "-journal")


class WriteHint:
    """Waits for writes to one database, for one task.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._names = {path.name + suffix for suffix in _SUFFIXES}
        self._inotify: INotify | None = None
        try:
            self._inotify = INotify(nonblocking=True)
            self._inotify.add_watch(path.parent, _WRITTEN | flags.ONLYDIR)
        except OSError:  # fs.inotify.max_user_instances or max_user_watches is used up
            self.close()

    async def wait_written(self, longest: float) -> bool:
        """Waits until there may be something new, at most so many seconds; returns whether there was a hint."""
        if self._inotify is None:
            await anyio.sleep(longest)
            return False
        with anyio.move_on_after(longest):
            while True:
                await anyio.wait_readable(self._inotify.fileno())
                if any(event.name in self._names for event in self._inotify.read(timeout=0)):
                    return True
        return False

    def forget(self) -> None:
        """Drops the hints that came until now."""
        if self._inotify is not None:
            self._inotify.read(timeout=0)

    def close(self) -> None:
        """Ends the watch of the kernel."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.close()
