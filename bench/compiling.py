"""Compiles the benchmarks' C programs when they are first needed, or their source is new."""

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bench.errors import NotMeasured

_HERE = Path(__file__).parent

# What the packages are called, for whoever reads that they are missing.
_NEEDED = (
    "the benchmarks need a C compiler and OpenSSL's headers (Debian: apt install gcc libc6-dev libssl-dev)"
)


@cache
def compiled(source: str, *options: str) -> Path:
    """The program that a source file of this folder makes.

    Args:
        source: the name of the file.
        options: for the compiler, after the source's name.

    Raises:
        NotMeasured: there is no compiler here, or a header is missing.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NotMeasured(f"no cc, gcc or clang found; {_NEEDED}")
    version = hashlib.sha256((_HERE / source).read_bytes() + repr(options).encode()).hexdigest()[:16]
    made = _HERE / "build" / f"{Path(source).stem}-{version}"
    if made.exists():
        return made
    made.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:  # several may compile at once
        unfinished = Path(folder) / "program"
        done = subprocess.run(
            [compiler, "-std=gnu11", "-O2", "-o", unfinished, _HERE / source, *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotMeasured(f"{compiler} can't compile {source}; {_NEEDED}:\n{done.stderr[-2000:]}")
        unfinished.rename(made)
    return made
