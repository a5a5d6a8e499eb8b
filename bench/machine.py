"""Where and of what a report was measured."""

import os
import platform
import sqlite3
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Circumstances:
    """What figures depend on beside the code.

    Attributes:
        date: the day, in UTC.
        commit: what is measured; with a mark if files were changed since.
        processor: its name, and how many of it may be used.
        memory: GiB.
        system: kernel and file system of the stores.
        software: Python and the libraries that matter.
        load: the mean number of processes that wanted to run in the minute before.
    """

    date: str
    commit: str
    processor: str
    memory: str
    system: str
    software: str
    load: str


def circumstances(folder: Path) -> Circumstances:
    """What they are now.

    Args:
        folder: where the stores lie.
    """
    libraries = ("anyio", "trio", "httpx", "cryptography")
    return Circumstances(
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        processor=f"{_field('/proc/cpuinfo', 'model name')}, {len(os.sched_getaffinity(0))} processors",
        memory=f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        system=f"Linux {platform.release()}, {_file_system(folder)}",
        software=", ".join(
            [
                f"Python {platform.python_version()}",
                f"SQLite {sqlite3.sqlite_version}",
                *(f"{name} {version(name)}" for name in libraries),
            ]
        ),
        load=f"{os.getloadavg()[0]:.1f}",
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}, and changes" if git("status", "--porcelain", "--", "../idiolectd", ".") else commit


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown 0" if name == "MemTotal" else "unknown processor"


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best, kind = "", "unknown file system"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, found = line.split()[:3]
        if folder.resolve().is_relative_to(where) and len(where) >= len(best):
            best, kind = where, found
    return kind
