"""OAuth client libraries for Node, set up as their manuals say, beside a daemon that rotates every few seconds.

Shown: on the clients' view no session is lost and no call fails. The same programs on the store itself, where they
find a refresh token, use it when the rotation's moment refuses a call, and a session is lost: so the first means
something.

Not shown: that a library that refreshes is of any use beside a daemon.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idiolectd.did import file_name
from tests import node
from tests.daemon_process import DaemonProcess, environment, wait_until
from tests.torture.common import Promises, options, server

_EXAMPLES = Path(__file__).parents[2] / "examples" / "node"

_LIBRARIES = ("atproto", "atcute")

# Seconds that an access token lives: the daemon rotates at 70 to 85 % of that.
_LIFE = 6

SHORT, _FULL = 4, 100


@dataclass
class _Program:
    """One client program.

    Attributes:
        library: which.
        kind: what it reads, the view or the store itself (raw).
        did: its session.
    """

    library: str
    kind: str
    did: str
    process: "subprocess.Popen[str]"
    said: dict[str, Any] = field(default_factory=dict)

    def end(self) -> None:
        """Lets it finish its call; notes what it says."""
        out, _ = self.process.communicate(timeout=60)
        self.said = json.loads(out)


def run(rotations: int, folder: Path, promises: Promises) -> None:
    """Runs all of them until each session on the view was rotated so often.

    Args:
        rotations: how often.
        folder: an empty one.
        promises: gets the figures.
    """
    store, view = folder / "store", folder / "clients"
    store.mkdir()
    with ExitStack() as stack:
        pds = stack.enter_context(server("--host=localhost", f"--access-life={_LIFE}"))
        dids: dict[tuple[str, str], str] = {}
        for library in _LIBRARIES:
            for kind in ("view", "raw"):
                record = pds.login("dpop")
                dids[library, kind] = record["did"]
                (store / file_name(record["did"])).write_text(json.dumps(record))
        env = environment(
            f"file://{store}",
            IDIOLECTD_CLIENTS__URL=f"file://{view}",
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.url,
        )
        stack.enter_context(DaemonProcess(env, folder / "daemon.log"))
        wait_until(lambda: all((view / file_name(did)).exists() for did in dids.values()))
        programs = [
            stack.enter_context(
                _program(folder, library, kind, {"view": view, "raw": store}[kind], did, pds.url)
            )
            for (library, kind), did in dids.items()
        ]
        viewed = [did for (_, kind), did in dids.items() if kind == "view"]
        raw = [did for (_, kind), did in dids.items() if kind == "raw"]
        wait_until(
            lambda: (
                (
                    all(pds.session(did).generation >= rotations for did in viewed)
                    and not all(pds.session(did).alive for did in raw)
                )
                or any(program.process.poll() is not None for program in programs if program.kind == "view")
            ),
            timeout=rotations * 2 * _LIFE + 30,
            every=0.2,
        )
        for program in programs:
            program.end()
        for program in programs:
            found = pds.session(program.did)
            who = f"{program.library} on the {program.kind}"
            print(
                f"  {who}: {program.said['calls']} calls, {found.generation} rotations, {program.said['failed']}"
            )
            if program.kind == "view":
                promises.expect(
                    f"{who}: lost, failed", (not found.alive, program.said["failed"]), (False, None)
                )
                promises.expect_at_least(f"{who}: rotations", found.generation, rotations)
        lost = [did for did in raw if not pds.session(did).alive]
        promises.expect_at_least("sessions lost on the store itself", len(lost), 1)


@contextmanager
def _program(
    folder: Path, library: str, kind: str, place: Path, did: str, directory: str
) -> Iterator[_Program]:
    program = folder / "program"
    if not program.exists():
        shutil.copytree(_EXAMPLES, program)
        shutil.copy(Path(__file__).with_name("peers.mjs"), program)
        (program / "node_modules").symlink_to(node.MODULES)
    process = subprocess.Popen(
        [node.node(), program / "peers.mjs", library, kind, place, did, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Program(library, kind, did, process)
    finally:
        process.kill()
        process.communicate()


def main() -> int:
    """The command line; returns the exit code."""
    given = options(f"{SHORT} rotations, with --full {_FULL}").parse_args()
    promises = Promises()
    with tempfile.TemporaryDirectory(prefix="idiolectd-peers-") as folder:
        run(_FULL if given.full else SHORT, Path(folder), promises)
    return promises.conclude()


if __name__ == "__main__":
    sys.exit(main())
