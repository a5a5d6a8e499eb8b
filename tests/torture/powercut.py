"""What a disk may hold after the current failed in the middle of a save, a refresh, a delete.

Filesystem store: the file operations of one piece of work are recorded; after each of them every state
that the disk may be in (`disk`) is put into a folder and read, by a reader of upstream's format and
by our own. SQLite: its own machinery is trusted, if it is told to sync: after what was recorded nothing
may be unsynced when a promise is made.

Promised: a reader finds the old or the new session (none, where there was none), never a torn or a mixed
one. When the work has returned, only the new. From the request on, old tokens never without the note
that they were sent; before it, never anything but the old tokens.

What it does not show: that a real disk keeps its word about fsync.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from idiolectd.errors import IdiolectError
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, reconcile
from idiolectd.store import open_store
from tests.torture import tracer, worker
from tests.torture.common import SESSION_KINDS, Promises, Record, Server, options, print_table, server
from tests.torture.disk import Disk, Image
from tests.torture.forks import in_fork
from tests.torture.recording import Recorder
from tests.torture.stores import STORE_KINDS, StorePlace, TornError

_TIMEOUT = 30.0

# A refresh on a new store syncs so many times: folders, and twice for each file that it replaces.
_SYNCS = 11


@dataclass(frozen=True)
class Scenario:
    """One piece of work on a store.

    Attributes:
        name: for the table.
        place: the store it works on.
        did: whose session.
        work: what is recorded.
        old: the session before; None: none.
        failing: which sync fails; None: none does.
    """

    name: str
    place: StorePlace
    did: str
    work: Callable[[], None]
    old: Record | None
    failing: int | None = None


@dataclass(frozen=True)
class Recorded:
    """A scenario, played once.

    Attributes:
        disk: as it was before.
        recorder: what was done.
        new: the session afterwards; None: none.
    """

    scenario: Scenario
    disk: Disk
    recorder: Recorder
    new: Record | None


def main() -> int:
    """Returns the exit code: 0 if everything was as promised."""
    arguments = options("power cuts during a save, a refresh, a delete").parse_args()
    reason = tracer.why_not()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    promises = Promises()
    rows: list[list[object]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idiolectd-powercut-")))
        simulator = stack.enter_context(server())
        # First all recordings: what reads the states has threads, and no fork keeps those.
        for recorded in [record(scenario) for scenario in _scenarios(simulator, folder, full=arguments.full)]:
            scenario = recorded.scenario
            if scenario.place.kind == "files":
                states, problems = anyio.run(try_all, recorded, folder / "image")
            else:
                states, problems = 0, list(unsynced(recorded))
            rows.append([scenario.name, len(recorded.recorder.operations), states or "-", len(problems)])
            for problem in sorted(set(problems))[:5]:
                print(f"{scenario.name}: {problem}")
    print("\nafter each operation: states that the disk may be in, and how many of them break a promise")
    print_table(["work", "operations", "states", "BROKEN"], rows)
    print()
    promises.expect_at_least("states read", sum(row[2] for row in rows if isinstance(row[2], int)), 1000)
    promises.expect("broken", sum(row[3] for row in rows if isinstance(row[3], int)), 0)
    return promises.conclude()


def _scenarios(simulator: Server, folder: Path, *, full: bool) -> Iterator[Scenario]:
    for kind in SESSION_KINDS:
        for store in STORE_KINDS:
            place = StorePlace(store, folder / f"refresh-{store}-{kind}")
            old = simulator.login(kind)
            place.seed(old)
            yield Scenario(f"{store}: refresh, {kind}", place, old["did"], _refresh(place, old), old)
    for failing in range(0 if full else _SYNCS - 6, _SYNCS):
        place = StorePlace("files", folder / f"refresh-failing-{failing}")
        old = simulator.login("bearer")
        place.seed(old)
        work = _refresh(place, old, but_may_fail=True)
        yield Scenario(f"files: refresh, sync {failing + 1} fails", place, old["did"], work, old, failing)
    old, other, rotated = (simulator.login("dpop") for _ in range(3))
    other |= {"did": old["did"]}
    rotated |= {"did": old["did"], "dpopPrivateKeyJwk": old["dpopPrivateKeyJwk"]}
    for store in STORE_KINDS:
        for name, before, after in (
            ("first login", None, old),
            ("login over an older one", old, other),
            ("save of rotated tokens", old, rotated),
            ("delete", old, None),
        ):
            place = StorePlace(store, folder / f"{store}-{name.replace(' ', '-')}")
            place.folder.mkdir()
            if before is not None:
                # Twice: so that the state has seen the session that is to be replaced.
                place.seed(before)
                in_fork(_save(place, before), timeout=_TIMEOUT)
            work = _delete(place, old["did"]) if after is None else _save(place, after)
            yield Scenario(f"{store}: {name}", place, old["did"], work, before)


def _refresh(place: StorePlace, record: Record, *, but_may_fail: bool = False) -> Callable[[], None]:
    def work() -> None:
        outcome = worker.refresh(place, record["did"], until_returned=True)
        assert outcome == "Refreshed" or but_may_fail, outcome

    return work


def _save(place: StorePlace, record: Record) -> Callable[[], None]:
    return lambda: worker.save(place, record)


def _delete(place: StorePlace, did: str) -> Callable[[], None]:
    return lambda: worker.delete(place, did)


def record(scenario: Scenario) -> Recorded:
    """Plays a scenario once, under the tracer."""
    root = scenario.place.folder
    recorder = Recorder(root, scenario.failing)
    disk = Disk.holding(root, recorder.nodes)
    log = root.with_suffix(".log")
    ended = tracer.run(scenario.work, recorder.on_call, on_done=recorder.on_done, timeout=_TIMEOUT, log=log)
    if ended.code != 0:
        raise RuntimeError(f"{scenario.name}: {log.read_text()[-2000:]}")
    with scenario.place.copied() as copy:
        try:
            new = copy.upstream_record(scenario.did)
        except TornError:
            new = None
    return Recorded(scenario, disk, recorder, new)


# SQLite --------------------------------------------------------------------------------------------


def unsynced(recorded: Recorded) -> Iterator[str]:
    """What was not on the disk when it had to be: at the request, and when the work returned."""
    recorder = recorded.recorder
    ends = {len(recorder.operations): "when the work returned"}
    if recorder.sent:
        ends[recorder.sent[-1]] = "when the token was sent"
    for number, operation in enumerate([*recorder.operations, None]):
        if number in ends:
            # Locks and the shared-memory file are worthless after a power cut.
            names = {recorder.names[node] for node in recorded.disk.dirty()}
            left = sorted(name for name in names - {"locks", "claims"} if not name.endswith("-shm"))
            if left:
                yield f"not synced {ends[number]}: {', '.join(left)}"
        if operation is not None:
            recorded.disk.apply(operation)


# Files ---------------------------------------------------------------------------------------------


async def try_all(recorded: Recorded, folder: Path) -> tuple[int, list[str]]:
    """Reads every state that the disk may be in, after each operation; returns their number, and problems."""
    operations = recorded.recorder.operations
    problems: list[str] = []
    states = 0
    for number in range(len(operations) + 1):
        if number:
            recorded.disk.apply(operations[number - 1])
        for image in recorded.disk.images():
            states += 1
            folder.mkdir()
            problem = await _problem(recorded, number, image, folder)
            shutil.rmtree(folder)
            if problem is not None:
                problems.append(f"after operation {number} of {len(operations)}: {problem}")
    return states, problems


async def _problem(recorded: Recorded, number: int, image: Image, folder: Path) -> str | None:
    image.write_to(folder)
    scenario, new = recorded.scenario, recorded.new
    place = replace(scenario.place, folder=folder)
    allowed = [found and found["refreshJwt"] for found in (scenario.old, new)]
    if not place.path.exists():
        return None if scenario.old is None else "the folder is gone"
    try:
        plain = place.upstream_record(scenario.did)["refreshJwt"]
    except TornError as error:
        if str(error) != "no file":
            return f"a reader of upstream's format: {error}"
        plain = None
    if plain not in allowed:
        return "a reader of upstream's format finds neither the old nor the new session"
    try:
        session, state = await _read(place, scenario.did)
    except IdiolectError as error:
        return f"our reader: {error}"
    found = session.refresh_jwt if session is not None else None
    if found not in allowed:
        return "our reader finds neither the old nor the new session"
    if session is not None and session.dpop_private_key_jwk not in _keys(scenario.old, new, found):
        return "tokens of one login with the key of another"
    return _broken_promise(recorded, number, session, state)


async def _read(place: StorePlace, did: str) -> tuple[OAuthSession | None, RefreshState]:
    """The session as a process of ours takes notice of it."""
    async with open_store(place.url) as store:
        entry = await store.read(did)
    if entry.session is None:
        return None, entry.state
    adopted = reconcile(entry.session, entry.state, 0.0)
    return adopted.session, adopted.state


def _keys(old: Record | None, new: Record | None, refresh_token: str | None) -> list[str | None]:
    return [
        record["dpopPrivateKeyJwk"] or None
        for record in (old, new)
        if record is not None and record["refreshJwt"] == refresh_token
    ]


def _broken_promise(
    recorded: Recorded, number: int, session: OAuthSession | None, state: RefreshState
) -> str | None:
    recorder, new = recorded.recorder, recorded.new
    found = session.refresh_jwt if session is not None else None
    is_new = found == (new["refreshJwt"] if new is not None else None)
    if number == len(recorder.operations):
        return None if is_new else "the work had returned, and its result is not there"
    if not recorder.sent:
        return None
    if number < recorder.sent[-1]:
        return "new tokens before the request" if is_new else None
    if not is_new and (session is None or state.note_on(session) is None):
        return "the token may have been sent, and no note says so"
    return None


if __name__ == "__main__":
    sys.exit(main())
