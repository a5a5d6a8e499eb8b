"""The package, and machines to install it on."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.deb import build_package
from tests.systemd.machine import BUILD, ROOT, Machine, alone, file_system, why_not

# What the package is built from.
SOURCES = (
    "idiolectd",
    "deploy",
    "docs",
    "examples",
    "requirements.lock",
    "pyproject.toml",
    "config.example.toml",
)


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    """The package and its next revision, by their paths on a machine; built once for the same sources."""
    folder = BUILD / "tested-packages" / _key()
    first, second = folder / "1.deb", folder / "2.deb"
    with alone("packages"):
        if not second.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
            folder.mkdir(parents=True)
            build_package(folder).rename(first)
            _raise_revision(first, second)
    return {"/srv/1.deb": first, "/srv/2.deb": second}


def _key() -> str:
    files = (
        path for name in SOURCES for path in ((ROOT / name), *(ROOT / name).rglob("*")) if path.is_file()
    )
    key = hashlib.sha256()
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        key.update(f"{path} {path.stat().st_size}".encode() + path.read_bytes())
    return key.hexdigest()[:16]


def _raise_revision(package: Path, to: Path) -> None:
    content = to.with_suffix(".content")
    subprocess.run(["dpkg-deb", "--raw-extract", package, content], check=True)
    control = content / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("-1\n", "-2\n", 1))
    new = to.with_suffix(".new")
    subprocess.run(["dpkg-deb", "-Znone", "--build", content, new], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(content)
    new.rename(to)


@pytest.fixture(scope="session")
def debian() -> Path:
    """A small Debian's root folder."""
    if reason := why_not():
        pytest.skip(reason)
    try:
        return file_system()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"debootstrap failed: {error.stdout[-300:]} {error.stderr[-300:]}")


@pytest.fixture(scope="module")
def machine(debian: Path, packages: dict[str, Path]) -> Iterator[Machine]:
    """A booted machine with both revisions of the package in ``/srv``, none installed."""
    with Machine(debian, packages) as booted:
        yield booted
