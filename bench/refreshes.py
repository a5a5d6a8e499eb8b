"""What a refresh costs: the daemon and its peers, each session refreshed once, from outside.

All sessions become due in the order of their numbers. What a process uses is read when the first of
them have been refreshed (connections stand, nonces and metadata are known) and when the last has
been; between the two the server says how many there were. A replay, a refresh too few or one too many
ends the measurement: then the figures would mean nothing.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.certificate import write_certificate
from bench.daemon import Daemon, write_config
from bench.endpoint import Endpoint, Statistics
from bench.errors import BenchError, DueTooSoon, NotMeasured
from bench.measuring import RATIO, Figure, Goal, Measure, Workshop
from bench.peers import FLOOR_H11, FLOOR_RAW, NAIVE, NODE, Peer, running
from bench.processes import Quiet, Usage, resident, usage
from bench.seeding import Seeding, write_files, write_sqlite

DAEMON = "idiolectd"
CPU, RATE, WRITTEN = "CPU per refresh", "refreshes per second", "written per refresh"

# Between two questions to the server how far it is.
_GLANCE = 0.01

# Seconds without any refresh after which something is stuck.
_STUCK = 60.0

# Seconds that a daemon may go on writing after the last answer.
_AFTERMATH = 0.5

_TRIES = 4

# Seconds from the seeding to the first due time, beside those for the looks at the sessions.
_LEAD = 4.0


@dataclass(frozen=True)
class Kind:
    """A way to measure the daemon.

    Attributes:
        issuers: how many.
        write: writes a store.
        pause: seconds between one due time and the next; 0: all at once, so that nothing limits it.
        is_secured: over TLS.
        share: how many of the refreshes it does.
    """

    issuers: int = 16
    write: Callable[[Path, Iterable[tuple[str, str]]], str] = write_sqlite
    pause: float = 0.0
    is_secured: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class _Moment:
    """The process and the server, at the same time."""

    used: Usage
    counted: Statistics


def _look(pid: int, endpoint: Endpoint) -> _Moment:
    return _Moment(usage(pid), endpoint.statistics())


def _wait_tokens(endpoint: Endpoint, wanted: int) -> None:
    """Waits until so many tokens were given.

    Raises:
        BenchError: nothing happens any more, or the server counted what must not be.
    """
    seen, since = -1, time.monotonic()
    while (counted := endpoint.statistics()).tokens < wanted:
        if counted.replays or counted.bad:
            raise BenchError(f"the server counted {counted.replays} replays and {counted.bad} bad requests")
        if counted.tokens > seen:
            seen, since = counted.tokens, time.monotonic()
        elif time.monotonic() - since > _STUCK:
            raise BenchError(f"{counted.tokens} of {wanted} refreshes, and then none for {_STUCK:.0f} s")
        time.sleep(_GLANCE)


def observe(subject: str, pid: int, endpoint: Endpoint, *, warm: int, total: int) -> Iterator[Figure]:
    """The cost of the refreshes from number `warm` to number `total`, of which each is made once.

    Raises:
        BenchError: fewer or more refreshes came, or a token twice.
    """
    _wait_tokens(endpoint, warm)
    first = _look(pid, endpoint)
    _wait_tokens(endpoint, total)
    ended = time.monotonic()
    time.sleep(_AFTERMATH)
    last = _look(pid, endpoint)
    if last.counted.tokens != total or last.counted.replays:
        raise BenchError(
            f"{subject}: {last.counted.tokens} refreshes and {last.counted.replays} replays"
            f" where {total} sessions were to be refreshed once"
        )
    made = total - first.counted.tokens
    if not made:
        raise BenchError(f"{subject} was through before anybody looked: more refreshes are needed")
    yield Figure(subject, CPU, 1000 * (last.used.cpu - first.used.cpu) / made, "ms")
    yield Figure(subject, RATE, made / (ended - first.used.at), "/s")
    yield Figure(subject, WRITTEN, (last.used.written - first.used.written) / made / 1024, "KiB")
    yield Figure(
        subject, "context switches per refresh", (last.used.switches - first.used.switches) / made, ""
    )
    requests = last.counted.requests - first.counted.requests
    yield Figure(subject, "requests per refresh", requests / made, "")
    server = last.counted.cpu - first.counted.cpu
    yield Figure(subject, "server's CPU per refresh", 1e6 * server / made, "µs")
    yield Figure(subject, "resident memory", resident(pid), "MiB")


def _wait_looked(daemon: Daemon, due: float) -> float:
    """Waits until a daemon has looked at all sessions; returns how many seconds it took.

    Raises:
        DueTooSoon: they became due meanwhile.
    """
    quiet = Quiet(daemon.pid)
    while time.time() < due:
        daemon.glance()
        since = quiet.glance()
        if since is not None and daemon.ready_after is not None:
            return since - daemon.began
        time.sleep(_GLANCE)
    raise DueTooSoon("the sessions became due while the daemon still looked at them")


def daemon(subject: str, workshop: Workshop, kind: Kind) -> Iterator[Figure]:
    """One round of the daemon; begins again with more time before it, if the machine is that busy."""
    for _ in range(_TRIES):
        try:
            yield from _daemon(subject, workshop, kind)
        except DueTooSoon:
            workshop.look *= 2
        else:
            return
    raise DueTooSoon(f"{workshop.look / 2:.3g} s are too short for a first look at a session")


def _daemon(subject: str, workshop: Workshop, kind: Kind) -> Iterator[Figure]:
    warm = max(workshop.size.warm, kind.issuers)
    total = warm + int(workshop.size.refreshes * kind.share)
    with workshop.scratch() as folder:
        certificate = write_certificate(folder) if kind.is_secured else None
        with Endpoint(kind.issuers, sessions=total, certificate=certificate) as endpoint:
            due = time.time() + _LEAD + total * workshop.look
            seeding = Seeding(endpoint.issuers, total, due=due, pause=kind.pause)
            url = kind.write(folder / "store", seeding.records())
            config = write_config(folder, url, endpoint, ca_file=certificate[0] if certificate else None)
            with Daemon(config) as running_daemon:
                looked_for = _wait_looked(running_daemon, due)
                workshop.look = 0.0005 + 1.5 * looked_for / total
                yield from observe(subject, running_daemon.pid, endpoint, warm=warm, total=total)
                running_daemon.glance()


def peer(workshop: Workshop, other: Peer) -> Iterator[Figure]:
    """One round of a peer; says why if it can't run here."""
    warm = workshop.size.warm
    total = warm + int(workshop.size.refreshes * other.share)
    with workshop.scratch() as folder, Endpoint(16, sessions=total, host=other.host) as endpoint:
        seeding = Seeding(endpoint.issuers, total, due=time.time())
        try:
            command = other.prepare(seeding, endpoint.directory, folder)
        except NotMeasured as missing:
            workshop.missing[other.name] = str(missing)
            return
        with running(command) as pid:
            yield from observe(other.name, pid, endpoint, warm=warm, total=total)


def side_by_side(workshop: Workshop) -> Iterator[Figure]:
    """The daemon and all peers, one after the other, and how they compare."""
    found: dict[str, float] = {}
    rounds = [daemon(DAEMON, workshop, Kind())]
    rounds += [peer(workshop, other) for other in (FLOOR_RAW, FLOOR_H11, NAIVE, NODE)]
    for round_ in rounds:
        for figure in round_:
            if figure.quantity == CPU:
                found[figure.subject] = figure.value
            yield figure
    for other in (FLOOR_H11, NAIVE, NODE):
        if other.name in found:
            yield Figure(f"{DAEMON} / {other.name}", CPU, found[DAEMON] / found[other.name], RATIO)


def beside_plain(workshop: Workshop, subject: str, kind: Kind) -> Iterator[Figure]:
    """The daemon in some kind of way, beside itself in the plain one."""
    found: list[float] = []
    for name, how in ((DAEMON, Kind()), (subject, kind)):
        for figure in daemon(name, workshop, how):
            if figure.quantity == CPU:
                found.append(figure.value)
            yield figure
    plain, other = found
    yield Figure(f"{subject} / {DAEMON}", CPU, other / plain, RATIO)


def _alone(workshop: Workshop, subject: str, kind: Kind) -> Iterator[Figure]:
    return daemon(subject, workshop, kind)


_LIMITS = """\
**What is left.** A refresh took 1,150 µs when it was last profiled, where the floor took 450 and the client
from npm 2,450 once it was warm. Nothing of it is large any more. In µs: HTTP 270 (of which the system's own
calls are 100), records, states and JSON 250, the thread that commits 200, claims and reads 140, engine,
planning and token endpoint 130, `finish` and trio's loop 110, keys and proofs 75 (signing and reading a key
cost 68 anywhere), scheduler 40. The floor decides, plans, mends and reports nothing: of what it leaves out
most is the state, which is read, compared and written twice, and the claim's checks.

**Tried.** h11 for plain answers costs 50 µs more than one pattern; httpx's request and response 45; a cancel
scope for each wait 40; `dataclasses.replace` 150; Python's collector of cycles, if it looks through what the
start has made, 150 to 400; a look at the disk's room by each of many refreshes at once 200.
msgspec for records and states would save about 40, and reads integers beyond 64 bits in fields of other
programs as floats: not taken. Half of the goal beside the floor would need another form of the state, without
the record in it.
"""

SLOWLY, FILES, MANY_ISSUERS, SECURED = "at 40 a second", "file store", "1,000 issuers", "over TLS"

MEASURES = (
    Measure(
        "refresh",
        "A refresh, side by side",
        "Durable DPoP refreshes of sessions of 16 issuers in an SQLite store, as fast as each can. The floor"
        " keeps the same promises and does nothing else; the naive loop keeps none; the client from npm keeps"
        " its sessions in memory.",
        side_by_side,
        goals=(
            Goal(DAEMON, CPU, most=1.5),
            Goal(DAEMON, RATE, least=500),
            Goal(DAEMON, WRITTEN, most=16),
            Goal(f"{DAEMON} / {FLOOR_H11.name}", CPU, most=1.6),
            Goal(f"{DAEMON} / {NAIVE.name}", CPU, most=1),
            Goal(f"{DAEMON} / {NODE.name}", CPU, most=0.25),
        ),
        plot=CPU,
        limits=_LIMITS,
    ),
    Measure(
        "slowly",
        "A refresh at 40 a second",
        "The same sessions, due one after the other: what is shared by many refreshes at once is not shared here.",
        partial(beside_plain, subject=SLOWLY, kind=Kind(pause=1 / 40, share=0.5)),
        goals=(Goal(f"{SLOWLY} / {DAEMON}", CPU, most=2),),
        plot=CPU,
        limits="Alone, a refresh pays for two transactions of its own, about 1,000 µs in the thread that commits, and"
        " for each wake-up of loop and threads. What many share has become cheap, so the ratio has grown although a"
        " refresh alone costs less than before.",
    ),
    Measure(
        "files",
        "A refresh in a file store",
        "One JSON file a session, each replaced durably.",
        partial(_alone, subject=FILES, kind=Kind(write=write_files)),
        goals=(Goal(FILES, CPU, most=3), Goal(FILES, RATE, least=300)),
    ),
    Measure(
        "issuers",
        "A refresh with 1,000 issuers",
        "The same number of sessions, of 1,000 issuers instead of 16; each issuer has been spoken to once before.",
        partial(beside_plain, subject=MANY_ISSUERS, kind=Kind(issuers=1000)),
        goals=(Goal(f"{MANY_ISSUERS} / {DAEMON}", CPU, most=1.3),),
        plot=CPU,
    ),
    Measure(
        "tls",
        "A refresh over TLS",
        "The same, with certificates of an authority of the configuration.",
        partial(beside_plain, subject=SECURED, kind=Kind(is_secured=True)),
        goals=(Goal(f"{SECURED} / {DAEMON}", CPU, most=1.3),),
        plot=CPU,
    ),
)
