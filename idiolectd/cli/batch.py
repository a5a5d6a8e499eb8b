"""``idiolectd login --batch``: logs many accounts in, within the servers' limits; can be run again.

A line that can't be parsed stops the batch before the first login; a login that fails does not stop the
others. Passwords are never shown: an error names a line by its number.
"""

import json
import math
import os
import stat
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from idiolectd.cli.bug_isolation import isolate_bug
from idiolectd.cli.credentials import Credentials, log_in, pds_url_of
from idiolectd.cli.existing_store import open_to_read
from idiolectd.cli.exits import CommandFailed, ExitCode, code_of, worst
from idiolectd.cli.options import command_events
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.progress import progress
from idiolectd.cli.starting import say_who_refreshes
from idiolectd.cli.store_to_come import open_parts_to_log_in
from idiolectd.config import Config
from idiolectd.did import is_meant_as_did
from idiolectd.errors import IdiolectError, LoginError, RecordError
from idiolectd.http import origin
from idiolectd.identity import Account
from idiolectd.log import redact
from idiolectd.ports import SharedStore
from idiolectd.session import normal_handle
from idiolectd.state import State

if TYPE_CHECKING:
    from idiolectd.parts import Parts

# createSession's limit in the reference PDS: 30 in 5 minutes. Exceeding it costs a wait of minutes, and
# refuses logins by hand during that time too.
LOGINS, PERIOD = 30, 300.0

# Seconds. A server whose daily limit is reached asks to wait for a day: the next run of the batch does that.
_LONGEST_WAIT = 900.0
_TRIES = 3

# Logins at different PDSs run at the same time.
_PDSS_AT_ONCE = 8

_FIELDS = {"account", "password", "pds_url"}

Result = Literal["logged_in", "skipped", "failed", "try_later"]


@dataclass(frozen=True)
class BatchEntry:
    """The result of one account's login; a line of the output."""

    account: str
    did: str | None
    result: Result
    message: str | None = None


def read_batch(path: Path) -> list[Credentials]:
    """Reads the accounts of a file; ``-`` is standard input. Empty lines and ``#`` comments are skipped.

    Raises:
        CommandFailed: the file can't be read, or lines can't be parsed; the message names all of them.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        if str(path) != "-" and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            say(f"other users can read the passwords in {path}; run: chmod 600 {path}")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "not UTF-8"
        raise CommandFailed(ExitCode.USAGE, f"{path}: {reason}") from None
    found: list[Credentials] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(_parsed(line))
        except ValueError as error:
            problems.append(f"{path}: line {number}: {error}")
    if problems:
        raise CommandFailed(ExitCode.USAGE, "\n".join(problems))
    return found


async def login_many(config: Config, wanted: Sequence[Credentials], *, json: bool) -> ExitCode:
    """Logs in every account without a living session, and writes each result to standard output."""
    async with open_parts_to_log_in(config, command_events(config)) as parts:
        lines = await login_all(parts, wanted, show=not json)
    if any(line.result == "logged_in" for line in lines):
        async with open_to_read(config) as store:
            say_who_refreshes(config, store)
    if json:
        put_json([asdict(line) for line in lines])
    counts = [f"{sum(line.result == result for line in lines)} {result}" for result in _CODES]
    say(f"{len(lines)} accounts: {', '.join(counts)}")
    return worst(_CODES[line.result] for line in lines)


async def login_all(parts: "Parts", wanted: Sequence[Credentials], *, show: bool) -> list[BatchEntry]:
    """Logs in every account without a living session; `show`: writes each result as soon as it is known."""
    with progress("logging in", len(wanted)) as advance:
        return await _Batch(parts, show=show, advance=advance).run(wanted)


_CODES: dict[Result, ExitCode] = {
    "logged_in": ExitCode.DONE,
    "skipped": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "try_later": ExitCode.TRY_LATER,
}


class Pace:
    """Allows at most `LOGINS` logins in any `PERIOD` seconds."""

    def __init__(self) -> None:
        self._started: deque[float] = deque(maxlen=LOGINS)

    def seconds_to_wait(self) -> float:
        """Returns how long `wait_turn` would wait now."""
        if len(self._started) < LOGINS:
            return 0.0
        return max(0.0, self._started[0] + PERIOD - anyio.current_time())

    async def wait_turn(self) -> None:
        """Waits until one more login is allowed, and counts it."""
        await anyio.sleep(self.seconds_to_wait())
        self._started.append(anyio.current_time())


@dataclass(frozen=True)
class _Turn:
    """One account of the file that has to be logged in.

    Attributes:
        server: the origin that the login goes to.
    """

    number: int
    credentials: Credentials
    located: Account | None
    server: str


class _Batch:
    """One run over the accounts."""

    def __init__(self, parts: "Parts", *, show: bool, advance: Callable[[], None]) -> None:
        self._parts = parts
        self._show = show
        self._advance = advance
        self._lines: dict[int, BatchEntry] = {}

    async def run(self, wanted: Sequence[Credentials]) -> list[BatchEntry]:
        alive = await _living(self._parts.store)
        by_pds: dict[str, list[_Turn]] = defaultdict(list)
        for number, credentials in enumerate(wanted):
            did = alive.get(_key(credentials.account))
            if did is not None:
                self._report(number, BatchEntry(credentials.account, did, "skipped", "has a living session"))
                continue
            found = await isolate_bug(
                credentials.account,
                partial(self._turn, number, credentials, alive),
                partial(_bug, credentials.account),
            )
            if isinstance(found, BatchEntry):
                self._report(number, found)
            else:
                by_pds[found.server].append(found)  # limits are counted per server
        limit = anyio.CapacityLimiter(_PDSS_AT_ONCE)
        async with anyio.create_task_group() as tg:
            for queue in by_pds.values():
                tg.start_soon(self._one_pds, queue, limit)
        return [self._lines[number] for number in sorted(self._lines)]

    async def _turn(self, number: int, credentials: Credentials, alive: dict[str, str]) -> _Turn | BatchEntry:
        """Locates an account; returns its login to make, or its result if it needs or allows no login."""
        try:
            if credentials.pds_url is not None:
                credentials = replace(credentials, pds_url=pds_url_of(credentials.pds_url))
            located = await self._parts.hosting.locate(credentials.account, credentials.pds_url)
            server = origin(credentials.pds_url or (located.pds_url if located else ""))
        except IdiolectError as error:
            return _failure(credentials.account, error)
        if located is not None and located.did in alive:
            return BatchEntry(credentials.account, located.did, "skipped", "has a living session")
        return _Turn(number, credentials, located, server)

    async def _one_pds(self, queue: list[_Turn], limit: anyio.CapacityLimiter) -> None:
        pace = Pace()
        async with limit:
            for place, turn in enumerate(queue):
                account = turn.credentials.account
                line = await isolate_bug(account, partial(self._one, turn, pace), partial(_bug, account))
                if line is not None:
                    self._report(turn.number, line)
                else:
                    for left in queue[place:]:
                        account = left.credentials.account
                        self._report(left.number, BatchEntry(account, None, "try_later", _ASKED_TO_WAIT))
                    return

    async def _one(self, turn: _Turn, pace: Pace) -> BatchEntry | None:
        """Logs one account in; None: its server asks for a longer wait than the batch allows."""
        account = turn.credentials.account
        for _ in range(_TRIES):
            if wait := math.ceil(pace.seconds_to_wait()):
                say(
                    f"{LOGINS} logins in {PERIOD / 60:.0f} minutes are a PDS's limit: {turn.server} goes on in {wait} s"
                )
            await pace.wait_turn()
            try:
                session = await log_in(self._parts, turn.credentials, turn.located)
            except LoginError as error:
                if error.retry_after is None:
                    return _failure(account, error)
                if error.retry_after > _LONGEST_WAIT:
                    break
                wait = math.ceil(error.retry_after)
                say(f"the PDS {turn.server} asks to wait {wait} s, because its limit of logins is reached")
                await anyio.sleep(max(1.0, error.retry_after))
            except IdiolectError as error:
                return _failure(account, error)
            else:
                return BatchEntry(account, session.did, "logged_in")
        return None

    def _report(self, number: int, line: BatchEntry) -> None:
        self._lines[number] = line
        self._advance()
        if self._show:
            put(f"{line.account}: {line.result}{f': {line.message}' if line.message else ''}")


_ASKED_TO_WAIT = "the server's limit for logins is reached; run the same command again later"


async def _living(store: SharedStore) -> dict[str, str]:
    """Maps the DID and the confirmed handle of each session that needs no new login to its DID."""
    alive: dict[str, str] = {}
    for did in await store.list_dids():
        try:
            entry = await store.read(did)
        except RecordError:
            continue
        if entry.session is None or entry.state.state is State.RELOGIN_REQUIRED:
            continue
        alive[did] = did
        if entry.session.confirmed_handle:
            alive[_key(entry.session.confirmed_handle)] = did
    return alive


def _key(account: str) -> str:
    return account if is_meant_as_did(account) else normal_handle(account)


def _failure(account: str, error: IdiolectError) -> BatchEntry:
    later = code_of(error) is ExitCode.TRY_LATER
    return BatchEntry(account, None, "try_later" if later else "failed", redact(str(error)))


def _bug(account: str, message: str) -> BatchEntry:
    return BatchEntry(account, None, "failed", message)


def _parsed(line: str) -> Credentials:
    """Parses one line of a batch. The error never quotes the line, which contains a password."""
    if not line.lstrip().startswith("{"):
        match line.split():
            case [account, password]:
                return Credentials(account, password)
            case [account, password, pds_url]:
                return Credentials(account, password, pds_url)
            case _:
                raise ValueError("expected ACCOUNT PASSWORD [PDS_URL]")
    try:
        found: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    texts = all(isinstance(value, str) and value for value in found.values())
    if not texts or not {"account", "password"} <= found.keys() <= _FIELDS:
        raise ValueError('expected {"account": TEXT, "password": TEXT} and perhaps "pds_url"')
    return Credentials(**found)
