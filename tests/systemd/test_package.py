"""What the Debian package and the wheel hold."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(packages: dict[str, Path]) -> list[str]:
    """The paths in the package."""
    listed = subprocess.check_output(["dpkg-deb", "--contents", packages["/srv/1.deb"]], text=True)
    return [line.split()[5].removeprefix(".") for line in listed.splitlines()]


def test_files(names: list[str]) -> None:
    """Everything is where Debian looks for it."""
    assert {
        "/etc/idiolectd/config.toml",
        "/usr/bin/idiolectd",
        "/usr/lib/systemd/system/idiolectd.service",
        "/usr/lib/sysusers.d/idiolectd.conf",
        "/usr/lib/tmpfiles.d/idiolectd.conf",
        "/usr/share/bash-completion/completions/idiolectd",
        "/usr/share/doc/idiolectd/copyright",
        "/usr/share/doc/idiolectd/README.md",
        "/usr/share/fish/vendor_completions.d/idiolectd.fish",
        "/usr/share/man/man1/idiolectd.1.gz",
        "/usr/share/man/man5/idiolectd.toml.5.gz",
        "/usr/share/zsh/vendor-completions/_idiolectd",
    } <= set(names)


def test_build_machine_is_not_named(packages: dict[str, Path], tmp_path: Path) -> None:
    """No file names a folder of the machine on which the package was built."""
    subprocess.run(["dpkg-deb", "--extract", packages["/srv/1.deb"], tmp_path], check=True)
    root = str(Path(__file__).parents[2]).encode()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and root in path.read_bytes()] == []
