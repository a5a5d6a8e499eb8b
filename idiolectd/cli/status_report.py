"""Reads what ``status`` and ``check`` show: the daemon, the store, its sessions and their number.

Writes nothing. The fields of `StatusReport.to_dict` are an interface.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from idiolectd.cli.accounts import stored_dids
from idiolectd.cli.existing_store import is_missing, open_to_read
from idiolectd.cli.output import say
from idiolectd.cli.status_rows import (
    StatusRow,
    read_all_rows,
    read_needy_rows,
    read_rows,
    totals,
    worst_first,
)
from idiolectd.config import Config
from idiolectd.errors import NoSessionError, StoreError
from idiolectd.ports import Overview
from idiolectd.state import ENDING, State
from idiolectd.store import is_daemon_running, read_presence

# Sessions. Of a larger store, only those that need a look are listed: they would be lost in the rest.
MOST_LISTED = 1000

# What a large store's index calls the sessions that wait for a person.
_NEEDS_PERSON = (
    State.RELOGIN_REQUIRED.value,
    State.UNPERSISTED.value,
    State.SUSPENDED.value,
    State.QUARANTINED.value,
    ENDING,
)


@dataclass(frozen=True, kw_only=True)
class DaemonStatus:
    """What is known of the store's daemon. The fields after `running` are empty unless it runs.

    Attributes:
        running: None: this user is not allowed to know.
        pid: its process ID.
        since: when it started, RFC 3339.
        version: which idiolectd it is.
        config: its configuration file.
        paused: the issuers to which it sends nothing for the time being.
        outrun: the issuers that allow fewer refreshes than their sessions need.
        unpersisted: the sessions whose new tokens it could not save yet.
    """

    running: bool | None
    pid: int | None = None
    since: str | None = None
    version: str | None = None
    config: str | None = None
    paused: list[str] = field(default_factory=list)
    outrun: list[str] = field(default_factory=list)
    unpersisted: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class StoreStatus:
    """Where the sessions are.

    Attributes:
        url: the store.
        named_by: what names it: an option, a variable or a file; None: it is the default.
        config: the configuration file that this command has read; None: there is none.
        exists: whether anything is there.
    """

    url: str
    named_by: str | None
    config: str | None
    exists: bool


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Numbers of sessions.

    Attributes:
        sessions: all of the store's, or those that were asked for.
        listed: those that the report lists; of a large store only those that need a look.
        need_person: those that wait for a person, and those whose access token has ended; of a large store
            as many as its index and the listed rows tell.
        states: by state, worst first. Sessions that are well and near their end are ``ending``, those that
            nobody has looked at yet ``new``.
    """

    sessions: int
    listed: int
    need_person: int
    states: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StatusReport:
    """The daemon, the store and its sessions at one moment.

    Attributes:
        at: the moment, in seconds since the epoch.
        account: the account that was asked for; None: all.
        state: the state that was asked for; None: all.
        daemon: see `DaemonStatus`.
        store: see `StoreStatus`.
        sessions: the rows, worst first.
        totals: see `Totals`.
    """

    at: float
    account: str | None
    state: State | None
    daemon: DaemonStatus
    store: StoreStatus
    sessions: list[StatusRow]
    totals: Totals

    @property
    def is_empty(self) -> bool:
        """Whether the store has no session at all."""
        return not self.totals.sessions and self.account is None and self.state is None

    def to_dict(self) -> dict[str, Any]:
        """Returns the object for ``--json``."""
        return {
            "daemon": asdict(self.daemon),
            "store": asdict(self.store),
            "sessions": [row.to_dict() for row in self.sessions],
            "totals": asdict(self.totals),
        }


def read_daemon(runtime_dir: Path | None) -> DaemonStatus:
    """Finds out whether a daemon runs on the store with this folder."""
    try:
        running = is_daemon_running(runtime_dir)
    except StoreError as error:
        say(f"warning: {error}")
        running = None
    presence = read_presence(runtime_dir) if running else None
    if presence is None:  # it may have started or ended just now, and not have said more yet
        return DaemonStatus(running=running)
    return DaemonStatus(
        running=True,
        pid=presence.pid,
        since=presence.since,
        version=presence.version,
        config=presence.config,
        paused=presence.paused,
        outrun=presence.outrun,
        unpersisted=presence.unpersisted,
    )


async def read_report(
    config: Config, account: str | None = None, state: State | None = None, *, everything: bool = False
) -> StatusReport:
    """Reads the store and its daemon.

    Args:
        config: which store, and the timing.
        account: only this account's session.
        state: only sessions in this state.
        everything: list all sessions of a large store too.

    Raises:
        DidError: the account starts like a DID and is not a valid one.
        StoreError: the store can't be read.
    """
    now = time.time()
    everything = everything or account is not None or state is not None
    async with open_to_read(config) as store:
        overview = None if everything else await store.overview(now, limit=MOST_LISTED)
        if overview is not None and overview.sessions <= MOST_LISTED:
            overview = None
        if overview is not None:
            rows = await read_needy_rows(store, config, overview.dids, now)
        elif account is None:
            rows = await read_all_rows(store, config, now)
        else:
            try:
                rows = await read_rows(store, config, await stored_dids(store, account), now)
            except NoSessionError:
                rows = []
        daemon = read_daemon(store.runtime_dir)
    rows = [row for row in rows if state is None or row.state is state]
    return StatusReport(
        at=now,
        account=account,
        state=state,
        daemon=daemon,
        store=StoreStatus(
            url=config.store.url,
            named_by=config.store_named_by,
            config=str(config.path) if config.path is not None else None,
            exists=not is_missing(config.store.url),
        ),
        sessions=rows,
        totals=count_rows(rows) if overview is None else _index_totals(overview, rows),
    )


def count_rows(rows: list[StatusRow]) -> Totals:
    """Counts sessions that were all read."""
    return Totals(
        sessions=len(rows),
        listed=len(rows),
        need_person=sum(row.needs_person for row in rows),
        states=totals(rows),
    )


def _index_totals(overview: Overview, rows: list[StatusRow]) -> Totals:
    """Counts the sessions of a large store, as its index does; `rows` are those that were read."""
    well = overview.sessions - sum(overview.needy.values()) - overview.due
    counts = {**overview.needy, State.DUE.value: overview.due, State.FRESH.value: well}
    waiting = sum(overview.needy.get(name, 0) for name in _NEEDS_PERSON)
    return Totals(
        sessions=overview.sessions,
        listed=len(rows),
        need_person=max(waiting, sum(row.needs_person for row in rows)),
        states=worst_first({name or "new": count for name, count in counts.items()}),
    )
