"""The package, and machines to install it on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.deb import build_package
from tests.systemd.machine import Machine, alone, file_system, why_not


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package and its next revision, by their paths on a machine."""
    folder = tmp_path_factory.mktemp("packages")
    with alone("package"):
        first = build_package(folder)
    content, second = folder / "content", folder / "second.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", first, content], check=True)
    control = content / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("-1\n", "-2\n", 1))
    subprocess.run(["dpkg-deb", "-Znone", "--build", content, second], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(content)
    return {"/srv/1.deb": first, "/srv/2.deb": second}


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
