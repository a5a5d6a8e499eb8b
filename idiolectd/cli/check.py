"""``idiolectd check``: checks the configuration, the store, its sessions and its daemon.

Sends nothing on the network and changes nothing. Each check reports what it found and, if that is bad,
what to do.
"""

import os
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from idiolectd import __version__
from idiolectd.cli.existing_store import is_missing
from idiolectd.cli.exits import ExitCode
from idiolectd.cli.findings import Finding, report_findings
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.places import named_store
from idiolectd.cli.running import run_async
from idiolectd.cli.starting import start_command
from idiolectd.cli.status_report import DaemonStatus, read_daemon
from idiolectd.cli.status_rows import StatusRow, read_all_rows
from idiolectd.clock import rfc3339
from idiolectd.config import Config
from idiolectd.errors import ConfigError, RecordError, StoreError
from idiolectd.http import tls_context
from idiolectd.log import redact
from idiolectd.oauth import SigningKey
from idiolectd.ports import SpillSurvey
from idiolectd.state import State
from idiolectd.store import (
    AS_STORED,
    keys_of,
    open_configured_store,
    open_store,
    read_keys,
    read_keys_at_hand,
    read_put_back,
)
from idiolectd.store_url import StoreUrl, parse_store_url

# Seconds for which it is said that the store was put back: about as long as its sessions may be away.
_PUT_BACK_SHOWN = 14 * 86400.0

# https://www.sqlite.org/wal.html: corruption when two connections write or checkpoint at the same moment.
_FIXED_SQLITE = (3, 51, 3)


@click.command(
    "check",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd check", "with the daemon's configuration"),
            ("idiolectd check --config new.toml && systemctl reload idiolectd", "before the daemon reads it"),
        ),
    },
)
@common
@click.pass_obj
def check_command(options: Options) -> int:
    """Check configuration, store, sessions and daemon.

    That no daemon runs is a warning: the check may come before its start. Exit codes: 0 all is well,
    1 something must be mended, 2 the configuration is wrong, 3 a session needs a login.
    """
    config = options.load_as_owner()
    findings = [Finding("configuration", "ok", str(config.path or "no file; defaults and variables"))]
    findings += [Finding("configuration", "warning", unused) for unused in options.unused]
    findings += _clients(config)
    findings += _store_keys(config)
    findings += _authorities(config)
    findings += _host(config)
    findings += run_async(partial(_store, config))
    return report_findings(findings, json=options.json)


def _clients(config: Config) -> Iterator[Finding]:
    for client in config.oauth.clients:
        for key in client.keys:
            name = f"client key {key.kid}"
            try:
                SigningKey.parse(key.read(os.environ))
            except (ConfigError, ValueError) as error:
                yield Finding(name, "failed", redact(str(error)), ExitCode.USAGE)
            else:
                yield Finding(name, "ok", f"readable, for {client.client_id}")


def _store_keys(config: Config) -> Iterator[Finding]:
    for key in config.store.keys:
        try:
            read_keys(replace(config.store, keys=(key,)))
        except ConfigError as error:
            yield Finding(f"store key {key.id}", "failed", str(error), ExitCode.USAGE)
        else:
            yield Finding(f"store key {key.id}", "ok", "readable")


def _authorities(config: Config) -> Iterator[Finding]:
    if config.network.ca_file is None:
        return
    try:
        tls_context(config.network.ca_file)
    except ConfigError as error:
        yield Finding("network.ca_file", "failed", str(error), ExitCode.USAGE)
    else:
        yield Finding("network.ca_file", "ok", f"readable: {config.network.ca_file}")


def _host(config: Config) -> Iterator[Finding]:
    version = tuple(int(part) for part in sqlite3.sqlite_version.split("."))
    store = parse_store_url(config.store.url)
    if store.kind == "sqlite" and version < _FIXED_SQLITE:
        yield Finding(
            "sqlite",
            "warning",
            f"{sqlite3.sqlite_version} can corrupt a WAL database if two programs write at once; idiolectd's"
            " own writes take turns, other programs' don't. Fixed in 3.51.3",
        )
    if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
        yield Finding("core dumps", "warning", "enabled: a crash would write tokens to disk; ulimit -c 0")
    if store.kind != "memory":
        yield from _permissions(store, config.store.group)


def _permissions(store: StoreUrl, group: str | None) -> Iterator[Finding]:
    try:
        mode = store.path.stat().st_mode
    except OSError:
        return  # opening the store reports it
    open_to_group = [path for path, mode in _modes(store) if mode & 0o070]
    if mode & 0o007:
        yield Finding(
            "permissions",
            "failed",
            f"every user of this host can open {store.path}; run: chmod o-rwx {store.path}",
            ExitCode.FAILED,
        )
    elif open_to_group and group is None:
        path = open_to_group[0]
        yield Finding(
            "permissions",
            "failed",
            f"the group {_group_of(path)} can open {path} ({len(open_to_group)} in all), and store.group is not"
            " set; a restart of the daemon closes them",
            ExitCode.FAILED,
        )
    else:
        readers = "other users" if group is None else f"everybody but its owner and the group {group}"
        yield Finding("permissions", "ok", f"{store.path} is closed to {readers}")


def _modes(store: StoreUrl) -> Iterator[tuple[Path, int]]:
    """Yields the files and folders that contain tokens, with their permissions."""
    if store.kind == "file":
        with suppress(OSError), os.scandir(store.path) as entries:
            yield store.path, store.path.stat().st_mode
            for entry in entries:
                if entry.name.endswith(".json"):
                    with suppress(OSError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False).st_mode
        return
    for end in ("", "-wal", "-shm"):
        path = store.path.with_name(store.path.name + end)
        with suppress(OSError):
            yield path, path.stat().st_mode


def _group_of(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return "of its folder"


async def _store(config: Config) -> list[Finding]:
    if is_missing(config.store.url):
        message = (
            f"there is none at {named_store(config)} yet; idiolectd login makes one, or name another: --store"
        )
        return [Finding("store", "failed", message, ExitCode.FAILED)]
    try:
        async with open_configured_store(config.store, looking=True) as store:
            rows = await read_all_rows(store, config, time.time())
            spill = await store.spill.survey() if store.spill is not None else None
            daemon = read_daemon(store.runtime_dir)
            put_back_at = read_put_back(store.runtime_dir) if store.runtime_dir is not None else None
        sealing = await _sealing(config)
    except StoreError as error:
        return [Finding("store", "failed", redact(str(error)), ExitCode.FAILED)]
    count = f"{len(rows)} session{'' if len(rows) == 1 else 's'}"
    findings = [Finding("store", "ok", f"{store.url}: {count}"), *_daemon(daemon, config)]
    findings += sealing
    if put_back_at is not None and time.time() - put_back_at < _PUT_BACK_SHOWN:
        message = (
            f"an older copy was put back by hand, noticed {rfc3339(put_back_at)}:"
            " its tokens are sent if they prove unused"
        )
        findings.append(Finding("store", "warning", message))
    findings += _spill(spill) if spill is not None else ()
    return [*findings, *(_session(row, daemon, config) for row in rows if row.state in _CODES or row.overdue)]


async def _sealing(config: Config) -> list[Finding]:
    """Says with which keys the sessions are sealed, and whether those are there."""
    keys, found, closed = read_keys_at_hand(config.store), Counter[str | None](), Counter[str | None]()
    store = config.store
    async with open_store(store.url, spill_dir=store.spill_dir, looking=True, keys=AS_STORED) as raw:
        async for page in raw.pages():
            for did in page:
                with suppress(RecordError):
                    session = await raw.load(did)
                    if session is not None:
                        found.update(keys_of(session))
                        closed.update(keys_of(keys.open(session, did)) - {None})
    if closed:
        names = ", ".join(f"{key} ({count})" for key, count in closed.items())
        return [
            Finding(
                "sealing",
                "failed",
                f"sessions are sealed with keys that store.keys does not have, or has others for: {names}",
                ExitCode.FAILED,
            )
        ]
    first = keys.sealing
    if first is None:
        return []
    others = [str(key or "none") for key in found if key != first]
    if others:
        text = f"mixed: not all sessions are sealed with {first}, but with {', '.join(others)}; run: idiolectd rekey"
        return [Finding("sealing", "warning", text)]
    return [Finding("sealing", "ok", f"all sessions are sealed with {first}")]


def _daemon(daemon: DaemonStatus, config: Config) -> Iterator[Finding]:
    if daemon.running is None:
        yield Finding("daemon", "warning", "this user is not allowed to know whether one runs")
    elif not daemon.running:
        yield Finding(
            "daemon", "warning", f"none runs: nobody refreshes the sessions; run: {start_command(config)}"
        )
    elif daemon.version not in (None, __version__):
        yield Finding(
            "daemon",
            "warning",
            f"pid {daemon.pid} is version {daemon.version}, and this is {__version__}: restart it",
        )
    elif daemon.pid is not None and daemon.config != (str(config.path) if config.path is not None else None):
        yield Finding(
            "daemon",
            "warning",
            f"pid {daemon.pid} has read {daemon.config or 'no configuration file'}, and this command"
            f" {config.path or 'none'}",
        )
    else:
        yield Finding("daemon", "ok", f"runs, pid {daemon.pid}, since {daemon.since}")
    for issuer in daemon.paused:
        yield Finding("daemon", "warning", f"sends nothing to {issuer} for a while: it is in trouble")


def _session(row: StatusRow, daemon: DaemonStatus, config: Config) -> Finding:
    """Says what is wrong with a session, and what to type."""
    found = row.last_error.message if row.last_error is not None else row.cause
    message, todo = f"{row.word}: {found}", row.action
    if row.state not in _CODES:
        message = f"its access token ended at {row.expires_at} and is not refreshed"
        if daemon.running is False:
            todo = start_command(config)
        elif row.held_by is not None:
            message += f": {row.held_by} holds its claim"
        else:
            message += "; session.overdue in the daemon's log names what holds it"
    message += "".join(f"; {text}" for text in (row.advice, todo) if text is not None)
    code = _CODES.get(row.state, ExitCode.FAILED)
    return Finding(f"session {row.handle or row.did}", "failed", message, code)


def _spill(found: SpillSurvey) -> Iterator[Finding]:
    if found.is_closed:
        yield Finding("spill", "warning", "this user is not allowed to know which tokens wait to be saved")
        return
    for broken in found.broken:
        yield Finding("spill", "failed", broken, ExitCode.FAILED)
    if found.place is None:
        yield Finding(
            "spill", "warning", "no second folder can be written for tokens that the store would not take"
        )
    elif not found.broken:
        yield Finding("spill", "ok", f"tokens that the store would not take go to {found.place}")


# The states that a person must end. The others pass by themselves, or the daemon ends them.
_CODES = {
    State.RELOGIN_REQUIRED: ExitCode.LOGIN_REQUIRED,
    State.SUSPENDED: ExitCode.FAILED,
    State.QUARANTINED: ExitCode.FAILED,
    State.UNPERSISTED: ExitCode.FAILED,
}
