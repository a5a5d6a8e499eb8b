"""Runs the daemon, one task group on trio: signals, readiness, reload, watchdog, an orderly end.

Decides nothing about sessions; the scheduler and the engine do. After SIGTERM or SIGINT nothing new is
started, what was sent is finished and saved, and the exit code is 0. An exception in one of the daemon's own
parts ends it in the same order with exit code 1, so that the service manager starts it again.
"""

import gc
import random
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from idiolectd import __version__, events
from idiolectd.config import Config, Reloaded, reload_config
from idiolectd.daemon.descriptors import places_within, raise_limit
from idiolectd.daemon.publisher import make_publisher
from idiolectd.daemon.signs_of_life import SignsOfLife
from idiolectd.daemon.single_instance import SingleInstance, clock_behind, hold_single_instance, own_presence
from idiolectd.daemon.told_refusals import RefusalListener
from idiolectd.errors import ConfigError, LockBusy, StoreError
from idiolectd.finish import in_thread
from idiolectd.log import LogSink, redacted_traceback
from idiolectd.oauth import ClientRegistry
from idiolectd.parts import Parts, open_parts, read_clients, require_readable_keys
from idiolectd.refresh import RefreshEngine, SaveDeadline
from idiolectd.scheduler import IssuerLimits, OverdueWatch, Scheduler
from idiolectd.systemd import Notifier
from idiolectd.threads import Errand

# How many seconds a stop waits for tokens that can't be saved. Together with the deadlines of the requests
# before it this stays below the unit's TimeoutStopSec.
STOP_PATIENCE = 60.0

# So many new objects are alive before they are looked through for cycles: a few MiB.
_YOUNG_OBJECTS = 10_000


def run(config: Config, *, reload: Callable[[], Config], log: LogSink, notifier: Notifier) -> int:
    """Runs until a signal ends it.

    Args:
        config: the configuration.
        reload: reads it again, for SIGHUP.
        log: where events go.
        notifier: the service manager.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 if a part of the daemon failed.

    Raises:
        StoreError: the store can't be opened, or another daemon runs on it.
        ConfigError: something is wrong with the configuration that only its use shows, as a key that
            is not there.
    """
    require_readable_keys(config)
    daemon = anyio.run(_run, config, reload, log, notifier, places_within(raise_limit()), backend="trio")
    if daemon.refused is not None:
        raise daemon.refused
    log(events.DaemonStopped(exit_code=daemon.exit_code))
    return daemon.exit_code


async def _run(
    config: Config, reload: Callable[[], Config], log: LogSink, notifier: Notifier, places: int
) -> "_Daemon":
    daemon = _Daemon(config, reload, log, notifier, places)
    await daemon.main()
    return daemon


def _spare_collector() -> None:
    """Has Python look for cyclic garbage less often, and never in what the start has made.

    A refresh makes thousands of objects, and hardly any cycle: the collector would look through the objects
    of all modules every few dozen refreshes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


class _Daemon:
    def __init__(
        self, config: Config, reload: Callable[[], Config], log: LogSink, notifier: Notifier, places: int
    ) -> None:
        self.exit_code = 0
        self.refused: StoreError | ConfigError | None = None
        self._config = config
        self._reload = reload
        self._log = log
        self._notifier = notifier
        self._life = SignsOfLife(notifier, log, config.log.refreshes)
        self._possible_places = places
        self._running = anyio.CancelScope()
        self._reload_asked = False
        self._reloading = anyio.Lock()
        self._parts: Parts | None = None
        self._scheduler: Scheduler | None = None

    async def main(self) -> None:
        # Signals first: so a stop that comes while the store is being opened is handled, too.
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with anyio.create_task_group() as tg:
                tg.start_soon(self._handle_signals, signals, tg)
                await self._work()
                self._life.flush()
                tg.cancel_scope.cancel()

    async def _work(self) -> None:
        try:
            async with open_parts(self._config, self._life, patience=SaveDeadline()) as parts:
                with hold_single_instance(parts.store.runtime_dir) as instance:
                    self._parts = parts
                    if self._reload_asked:
                        await self._reload_config()
                    # Only what runs on the store is cancelled; closing it is not.
                    with self._running:
                        await self._supervise(parts, instance)
        except (StoreError, ConfigError) as error:
            self.refused = error
        except Exception as error:  # noqa: BLE001 - a failed part ends the daemon in order, not at once
            self.exit_code = 1
            self._log(events.DaemonFailed(error=type(error).__name__, traceback=redacted_traceback(error)))

    async def _supervise(self, parts: Parts, instance: SingleInstance) -> None:
        presence = own_presence(parts.clock.now(), self._config.path)
        behind = clock_behind(parts.store.runtime_dir, parts.clock.now())
        await in_thread(instance.note, presence)
        self._log(
            events.DaemonStarted(
                version=__version__, pid=presence.pid, store=parts.store.url, config=presence.config
            )
        )
        try:
            await parts.store.secure()
        except (
            StoreError
        ) as error:  # a failing write is reported where it fails; until then sessions are refreshed
            self._log(events.StoreUnavailable(error=str(error), lasting=0.0))
        publisher = make_publisher(self._config.clients, parts, emit=self._log)
        scheduler = Scheduler(
            parts.store,
            self._engine,
            clock=parts.clock,
            emit=self._life,
            limits=_limits(self._config),
            places=self._places,
            allowed_rate=parts.http.allowed_rate,
            jitter=random.random,
            changed=None if publisher is None else publisher.changed,
        )
        self._scheduler = scheduler
        await self._life.count(parts)
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._wind_down, parts, scheduler)
            tg.start_soon(self._life.extend_start)
            if publisher is not None:
                self._life.publisher = publisher
                tg.start_soon(publisher.run)
                tg.start_soon(RefusalListener(publisher.view.refusals, scheduler.look_at_refused).run)
            await tg.start(partial(scheduler.run, clock_behind=behind))
            watch = OverdueWatch(parts.store, self._engine, scheduler, clock=parts.clock, emit=self._life)
            tg.start_soon(watch.run)
            await self._life.ready(parts, scheduler)
            _spare_collector()
            tg.start_soon(self._life.report, parts, scheduler, instance, presence, self._make_way)
            tg.start_soon(self._life.watchdog, parts, scheduler)

    async def _wind_down(self, parts: Parts, scheduler: Scheduler) -> None:
        """Waits for the daemon's end, by a signal or a failure, and sets a deadline then.

        Until it, tokens that can't be saved are tried again; the service manager is asked for that much time.
        """
        try:
            await anyio.sleep_forever()
        finally:
            parts.resources.save_deadline.end_in(STOP_PATIENCE)
            with anyio.CancelScope(shield=True):
                while scheduler.statistics().in_flight:
                    self._notifier.extend_timeout(int(STOP_PATIENCE * 1e6))
                    await anyio.sleep(0.1)
                await self._life.tell_commands(parts)

    def _engine(self) -> RefreshEngine:
        """The engine of the configuration that holds now."""
        if self._parts is None:
            raise RuntimeError("the store is not open yet")
        return self._parts.engine

    @property
    def _places(self) -> int:
        """How many refreshes may be in flight."""
        return self._config.refresh.total_concurrency or self._possible_places

    # Signals ---------------------------------------------------------------------------------

    async def _handle_signals(self, signals: AsyncIterator[signal.Signals], tg: TaskGroup) -> None:
        async for received in signals:
            if received == signal.SIGHUP:
                tg.start_soon(self._reload_config)  # in a task: a stop must be handled meanwhile
            else:
                self._stop(received.name)

    def _stop(self, reason: str) -> None:
        if self._running.cancel_called:
            return
        in_flight = self._scheduler.statistics().in_flight if self._scheduler else 0
        self._log(events.DaemonStopping(reason=reason, in_flight=in_flight))
        self._notifier.stopping()
        self._running.cancel()

    def _make_way(self, error: LockBusy) -> None:
        """Ends this daemon, because another one runs on its store."""
        self.refused = error
        self._stop("another daemon runs on this store")

    async def _reload_config(self) -> None:
        """Reads the configuration again and applies it; if it is wrong, everything stays as it is."""
        self._reload_asked = self._parts is None  # the store is being opened: after that
        if self._parts is None:
            return
        async with self._reloading:
            await self._reload_now(self._parts)

    async def _reload_now(self, parts: Parts) -> None:
        self._notifier.reloading()
        try:
            # In a thread of its own: the files may lie on a dead network file system. Until they are read, the old
            # configuration stays.
            reloaded, clients = await Errand(self._read_again, "idiolectd-reload").wait()
            successor = parts.successor(reloaded.config, clients)
        except (ConfigError, RuntimeError) as error:  # or the system has no thread left
            self._log(events.DaemonReloadFailed(error=str(error)))
            self._notifier.ready("the new configuration is wrong; the old one stays")
            return
        self._parts, self._config = successor, reloaded.config
        self._log.level = reloaded.config.log.level
        self._life.set_refreshes(reloaded.config.log.refreshes)
        if self._scheduler is not None:
            self._scheduler.set_limits(_limits(reloaded.config), self._places)
            self._scheduler.retry_suspended()
        self._log(events.DaemonReloaded(changed=reloaded.changed, ignored=reloaded.ignored))
        self._notifier.ready("configuration taken over")

    def _read_again(self) -> tuple[Reloaded, ClientRegistry]:
        reloaded = reload_config(self._config, self._reload())
        return reloaded, read_clients(reloaded.config)


def _limits(config: Config) -> IssuerLimits:
    return IssuerLimits(concurrency=config.refresh.concurrency, rate=config.refresh.rate)
