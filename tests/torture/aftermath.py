"""What is left after a run was disturbed: a new process does its work, then server and store are asked."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from idiolectd.outcome import ReloginRequired
from tests.torture import worker
from tests.torture.common import Server, call_works
from tests.torture.forks import in_fork
from tests.torture.stores import StorePlace

_TIMEOUT = 30.0


@dataclass(frozen=True)
class Recovered:
    """The names of what `worker.recover` found.

    Attributes:
        outcome: of the last refresh that was due by itself.
        cause: why the session is dead, if it is.
        forced: of one more refresh.
    """

    outcome: str
    cause: str | None
    forced: str


def recover(place: StorePlace, did: str) -> Recovered:
    """Lets a process of its own do what a daemon does with a session that it finds.

    Raises:
        AssertionError: it failed.
    """
    report = place.folder / "recovered.json"

    def work() -> None:
        found = worker.recover(place, did)
        cause = found.outcome.cause if isinstance(found.outcome, ReloginRequired) else None
        names = Recovered(type(found.outcome).__name__, cause, type(found.forced).__name__)
        report.write_text(json.dumps(asdict(names)))

    log = place.folder / "recovery.log"
    code = in_fork(work, timeout=_TIMEOUT, log=log)
    assert code == 0, f"the recovering process ended with {code}: {last_words(log)}"
    return Recovered(**json.loads(report.read_text()))


def last_words(log: Path) -> str:
    """The end of a process' standard error."""
    return " | ".join(log.read_text(errors="replace").splitlines()[-4:])[-600:]


def assert_lost(recovered: Recovered) -> None:
    """The session is given up, for the one reason that there may be."""
    assert recovered.outcome == "ReloginRequired", f"lost, and called {recovered.outcome}"
    assert recovered.cause == "response_lost", f"lost, with cause {recovered.cause}"


def assert_lives(server: Server, place: StorePlace, did: str, recovered: Recovered) -> None:
    """The session works: it was refreshed once more, and a foreign program can use what is stored."""
    assert recovered.outcome in ("Current", "Refreshed"), f"honoured, and called {recovered.outcome}"
    assert recovered.forced == "Refreshed", f"honoured, and one more refresh was {recovered.forced}"
    assert server.session(did).alive, "the server has ended the session"
    assert call_works(place.upstream_record(did)), "the PDS does not take what is stored"
