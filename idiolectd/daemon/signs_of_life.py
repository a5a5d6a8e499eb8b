"""Shows that the daemon lives, and how it is: the status line, the presence note, the log's summary, the watchdog.

While nothing happens it looks at little: an idle daemon is to cost nothing.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import anyio

from idiolectd import events
from idiolectd.config import Refreshes
from idiolectd.daemon.glance import Glance, look, status_line
from idiolectd.daemon.publisher import Publisher
from idiolectd.daemon.single_instance import SingleInstance
from idiolectd.errors import LockBusy, StoreError
from idiolectd.events import Event, EventSink, SessionEvent, SessionQuarantined
from idiolectd.finish import in_thread
from idiolectd.log import RefreshSummary
from idiolectd.parts import Parts, tell_witnesses
from idiolectd.scheduler import LONGEST_SLEEP, Scheduler
from idiolectd.store import Presence, take_commands
from idiolectd.systemd import Notifier

# Seconds between two renewals of the status line and of the presence note, and between two requests for more
# time while a start is slow.
STATUS_INTERVAL = 10.0

# The sessions are looked at again when something has happened to one of them, and so many times as long has
# passed as the last look took: at a million it reads whole indexes, and may take a thousandth of a core.
_LOOK_SHARE = 1000

# Seconds after which they are looked at although nothing is known to have happened.
_LOOK_ANYWAY = 3600.0

# Seconds between two lines of the log's summary.
_SUMMARY_INTERVAL = 60.0

# With more sessions than these, the good news are summed up unless the configuration says otherwise.
_FEW = 1000

# The scheduler wakes up at least every LONGEST_SLEEP seconds; after so many seconds without, it is stuck.
_STUCK = LONGEST_SLEEP + 15.0


class SignsOfLife:
    """Of one daemon. It is the `EventSink` of all parts: what happens to sessions is what there is to tell of.

    Args:
        notifier: the service manager.
        log: where events go.
        refreshes: ``log.refreshes``.

    Attributes:
        publisher: keeps the clients' view; None: there is none.
    """

    publisher: Publisher | None = None

    def __init__(self, notifier: Notifier, log: EventSink, refreshes: Refreshes) -> None:
        self._notifier = notifier
        self._log = log
        self._refreshes: Refreshes = refreshes
        self._summary = RefreshSummary(log)
        self._glance = Glance(0)
        self._has_news = False
        self._is_ready = False

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        self._has_news = self._has_news or isinstance(event, SessionEvent | SessionQuarantined)
        self._summary(event)

    def set_refreshes(self, refreshes: Refreshes) -> None:
        """Takes over another ``log.refreshes``."""
        self._refreshes = refreshes
        self._choose()

    def flush(self) -> None:
        """Writes what was summed up so far."""
        self._summary.flush()

    def _choose(self) -> None:
        is_large = self._glance.sessions > _FEW
        self._summary.is_on = self._refreshes == "summary" or (self._refreshes == "auto" and is_large)

    # The start -------------------------------------------------------------------------------

    async def count(self, parts: Parts) -> None:
        """Counts the sessions, before anything is told of one."""
        with contextlib.suppress(StoreError):  # reported by whoever needs the store for its work
            self._glance = Glance(await parts.store.count())
        self._choose()

    async def extend_start(self) -> None:
        """Asks the service manager for more time while a start on very many new sessions is slow."""
        while not self._is_ready:
            self._notifier.status(f"looking at {self._glance.sessions} sessions")
            self._notifier.extend_timeout(int(3 * STATUS_INTERVAL * 1e6))
            await anyio.sleep(STATUS_INTERVAL)

    async def ready(self, parts: Parts, scheduler: Scheduler) -> None:
        """Tells that everything is scheduled.

        Raises:
            StoreError: the store can't answer.
        """
        self._is_ready = True
        await self._look(parts)
        self.flush()
        statistics = scheduler.statistics()
        self._log(
            events.DaemonReady(
                sessions=self._glance.sessions,
                caught_up=statistics.is_caught_up,
                needing_person=self._glance.needing_person,
            )
        )
        self._notifier.ready(status_line(self._glance, statistics, 0, self._view_trouble))
        await self.tell_commands(parts)

    # From then on ----------------------------------------------------------------------------

    async def report(
        self,
        parts: Parts,
        scheduler: Scheduler,
        instance: SingleInstance,
        presence: Presence,
        on_rival: Callable[[LockBusy], None],
    ) -> None:
        """Renews status line and presence note again and again.

        Args:
            parts: the daemon's.
            scheduler: knows what it does.
            instance: the daemon's lock.
            presence: what the note says of this process.
            on_rival: called if a second daemon runs on the store.
        """
        look_at = look_anyway_at = anyio.current_time()
        flush_at = anyio.current_time() + _SUMMARY_INTERVAL
        shown = ""
        while True:
            await anyio.sleep(STATUS_INTERVAL)
            now, statistics = anyio.current_time(), scheduler.statistics()
            holding = parts.resources.save_deadline.holding
            presence = replace(
                presence,
                paused=statistics.tripped,
                outrun=statistics.outrun,
                unpersisted=sorted(holding),
                view_trouble=self._view_trouble,
            )
            await self.tell_commands(parts)
            try:
                await in_thread(instance.keep, presence)
                await tell_witnesses(parts.store)
                if now >= look_anyway_at or (self._has_news and now >= look_at):
                    await self._look(parts)
                    look_at = now + _LOOK_SHARE * (anyio.current_time() - now)
                    look_anyway_at = now + _LOOK_ANYWAY
                line = status_line(self._glance, statistics, len(holding), self._view_trouble)
            except LockBusy as error:  # each of two would send a token: this one ends, the other one stays
                on_rival(error)
                return
            except StoreError as error:
                line = f"the store is in trouble: {error}"
            if line != shown:
                self._notifier.status(line)
                shown = line
            if now >= flush_at:
                self.flush()
                flush_at = now + _SUMMARY_INTERVAL

    async def tell_commands(self, parts: Parts) -> None:
        """Writes what commands have done since the last time, or before this daemon was started."""
        for done in await in_thread(take_commands, parts.store.runtime_dir):
            self(done)

    @property
    def _view_trouble(self) -> str | None:
        return None if self.publisher is None else self.publisher.trouble

    async def _look(self, parts: Parts) -> None:
        self._has_news = False
        self._glance = await look(parts.store, parts.clock.now())
        self._choose()

    async def watchdog(self, parts: Parts, scheduler: Scheduler) -> None:
        """Pings only while the scheduler wakes up in time and the store answers: else a restart may help."""
        interval = self._notifier.watchdog_interval()
        while interval is not None:
            with anyio.move_on_after(interval), contextlib.suppress(StoreError):
                await parts.store.due(0.0, limit=1)
                if anyio.current_time() - scheduler.alive_at < _STUCK:
                    self._notifier.watchdog()
            await anyio.sleep(interval)
