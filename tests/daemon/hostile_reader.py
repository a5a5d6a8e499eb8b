"""A user of the clients' group who wants more than he may have. Run as a program: he says what he got, then holds on.

    python hostile_reader.py PID PLACE VIEW TOKENS

PID: the daemon's; PLACE: a folder with all that belongs to store and daemon; VIEW: the clients' view; TOKENS: texts that
he looks for, separated by commas. No packages: any interpreter runs it.
"""

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def files(*roots: Path) -> Iterator[Path]:
    """All files below that this user may find."""
    for root in roots:
        for folder, _, names in os.walk(root):
            yield from (Path(folder) / name for name in names)


def succeeded(*attempts: Callable[[], object]) -> list[int]:
    """The numbers of those that were not refused."""
    done = []
    for number, attempt in enumerate(attempts):
        with suppress(OSError, sqlite3.Error):
            attempt()
            done.append(number)
    return done


def main() -> None:
    """See the module."""
    pid, place, view, tokens = (
        sys.argv[1],
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        sys.argv[4].encode().split(b","),
    )
    proc = Path("/proc") / pid
    held: list[Any] = []
    seen: set[str] = set()
    read = 0
    names = ("environ", "cmdline", "mem", "maps", "auxv", "stat", "status")
    for path in (*files(place), *(proc / name for name in names), *files(proc / "fd", proc / "map_files")):
        with suppress(OSError):
            held.append(path.open("rb"))  # and it stays open
            content = held[-1].read()
            read += 1
            seen |= {str(path) for token in tokens if token in content}
    is_folder = view.is_dir()
    refused = view / "refused" if is_folder else view.with_name(f"{view.name}.refused")
    own = view / "did_plc_own.json" if is_folder else view.with_name("own")
    entry = next(iter(view.glob("did*.json"))) if is_folder else view
    lied = succeeded(
        lambda: own.write_text("{}"),
        lambda: own.symlink_to("/etc/passwd"),
        lambda: entry.open("ab"),
        entry.unlink,
        lambda: entry.rename(own),
        lambda: entry.chmod(0o666),
        lambda: os.truncate(entry, 0),
        lambda: refused.rename(refused.with_name("other")),
        lambda: list(refused.iterdir()),
        lambda: sqlite3.connect(view).execute("DELETE FROM sessions"),
        lambda: os.kill(int(pid), 0),
    )
    if not is_folder:
        held.append(sqlite3.connect(f"file:{view}?mode=ro", uri=True))
        held[-1].execute("BEGIN")
        held[-1].execute("SELECT * FROM sessions").fetchall()  # a shared lock, as long as he lives
    for number in range(10_000):
        (refused / f"did:plc:nobody{number}~{number}").touch()
    for number in range(200):
        with suppress(FileNotFoundError):  # the daemon was faster
            folder = refused / f"did:plc:folder{number}~{number}"
            folder.mkdir()
            (folder / "inside").touch()
    with suppress(OSError):
        (refused / "did:plc:link~a").symlink_to(entry)
        os.link(entry, refused / "did:plc:link~b")
    print(json.dumps({"seen": sorted(seen), "read": read, "lied": lied}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
