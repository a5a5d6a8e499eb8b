"""Eight client programs call the real PDS without pause while their session is refreshed by force.

Three of them on asyncio, three on trio, two without an event loop; all through `SessionAuth`. One
process refreshes: by the engine and under the claim, as the daemon does.

Shown, for either store: with a DPoP session, whose access token ends with every rotation, not one
call fails; with an app-password session, whose token ends by itself before the next one comes, not one
either; without the wait for the record (``patience=0``) calls fail, so the first two mean something.

Not shown: what happens when the daemon is away for longer than a client's patience.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from idiolectd import OAuthSession, open_store
from idiolectd.config import load_config
from idiolectd.outcome import Refreshed
from idiolectd.parts import Parts, open_parts
from tests.daemon_process import environment
from tests.real_pds.harness import RealPds, why_not
from tests.real_pds.login import legacy_login, oauth_login
from tests.torture.clients_worker import Tally
from tests.torture.common import Promises, SessionKind, child, options, print_table
from tests.torture.stores import StoreKind

_WAYS = ("asyncio", "trio", "sync", "asyncio", "trio", "sync", "asyncio", "trio")

# An app-password session's token is over before the next one comes.
_LEGACY_LIFE, _LEGACY_EVERY = 3.0, 3.5

_DPOP_EVERY = 0.5

# As `SessionAuth` has it.
_PATIENCE = 10.0

# Nobody hangs for longer.
_LIMIT = 60.0


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        kind: of the session.
        store: which.
        rotations: how many.
        patience: of the clients, in seconds.
    """

    kind: SessionKind
    store: StoreKind
    rotations: int
    patience: float = _PATIENCE

    @property
    def name(self) -> str:
        """The row's first cell."""
        return f"{self.kind}, {self.store}{'' if self.patience else ', without the wait'}"

    @property
    def every(self) -> float:
        """Seconds from one rotation to the next."""
        return _DPOP_EVERY if self.kind == "dpop" else _LEGACY_EVERY


SHORT = (
    Plan("dpop", "sqlite", 20),
    Plan("bearer", "files", 4),
    Plan("dpop", "files", 20, patience=0.0),
)
LONG = (
    Plan("dpop", "sqlite", 200),
    Plan("dpop", "files", 200),
    Plan("bearer", "sqlite", 20),
    Plan("bearer", "files", 20),
    Plan("dpop", "sqlite", 40, patience=0.0),
    Plan("dpop", "files", 40, patience=0.0),
)


@contextmanager
def pds_for_clients(folder: Path) -> Iterator[RealPds]:
    """A real PDS with one account for each run."""
    with RealPds(folder, accounts=len(LONG), legacy_access_exp=f"{_LEGACY_LIFE:.0f}s") as pds:
        yield pds


def run(pds: RealPds, plan: Plan, folder: Path, promises: Promises, *, account: int) -> list[object]:
    """Adds to the promises; returns the row of the table."""
    url = f"sqlite://{folder}/s.sqlite" if plan.store == "sqlite" else f"file://{folder}/files"
    login = oauth_login if plan.kind == "dpop" else legacy_login
    whose = pds.accounts[account]
    record = login(pds.url, whose.handle, whose.password)
    tallies = anyio.run(partial(_rotate, plan, url, record, whose.did), backend="trio")
    calls, failed = sum(t.calls for t in tallies), sum(t.failed for t in tallies)
    repeated, slowest = sum(t.repeated for t in tallies), max(t.slowest for t in tallies)
    for failure in [failure for tally in tallies for failure in tally.failures][:3] if plan.patience else ():
        print(f"  {plan.name}: {failure}")
    if plan.patience:
        promises.expect(f"{plan.name}: failed calls", failed, 0)
        promises.expect_at_least(f"{plan.name}: calls that met a refused token", repeated, plan.rotations)
    else:
        promises.expect_at_least(f"{plan.name}: failed calls", failed, 1)
    return [plan.name, plan.rotations, calls, repeated, failed, f"{slowest:.2f} s"]


async def _rotate(plan: Plan, url: str, record: dict[str, str], did: str) -> list[Tally]:
    async with open_store(url) as store:
        await store.save(OAuthSession.from_json(json.dumps(record)))
    # The environment of a command on this store and nothing of the user's own.
    config = load_config(None, environment(url))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                child(
                    "tests.torture.clients_worker",
                    url,
                    did,
                    *("--way", way, "--patience", str(plan.patience)),
                    env=dict(os.environ),
                )
            )
            for way in _WAYS
        ]
        for client in clients:
            assert await _line(client) == "ready"
        async with open_parts(config, lambda _event: None) as parts:
            for _ in range(plan.rotations):
                await anyio.sleep(plan.every)
                await _force(parts, did)
        await anyio.sleep(plan.every / 2)
        for client in clients:
            assert client.stdin is not None
            client.stdin.close()
        return [Tally(**json.loads(await _line(client))) for client in clients]


async def _force(parts: Parts, did: str) -> None:
    with anyio.fail_after(_LIMIT):
        attempt = await parts.engine.refresh(did, force=True, patience=_LIMIT)
    assert isinstance(attempt.outcome, Refreshed), f"no rotation, but {attempt.outcome}"


async def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    with anyio.fail_after(_LIMIT):
        line = await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    if not line:
        raise AssertionError("a client ended early")
    return line.strip()


def run_all(plans: tuple[Plan, ...], folder: Path) -> int:
    """All runs on one PDS, one after the other; returns the exit code."""
    promises = Promises()
    with pds_for_clients(folder / "pds") as pds:
        rows = []
        for number, plan in enumerate(plans):
            place = folder / str(number)
            place.mkdir()
            rows.append(run(pds, plan, place, promises, account=number))
    print_table(["session, store", "rotations", "calls", "refused, repeated", "failed", "slowest"], rows)
    return promises.conclude()


def main() -> int:
    """The command line; returns the exit code."""
    options("eight clients over 200 rotations of their session; --full: the same").parse_args()
    reason = why_not()
    if reason is not None:
        print(json.dumps({"skipped": reason}))
        return 0
    with tempfile.TemporaryDirectory(prefix="idiolectd-clients-") as folder:
        return run_all(LONG, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
