"""``python -m deploy.deb``: builds the Debian package for the release of Debian that it runs on.

The environment inside is for the system's version of Python, so a package fits one release of Debian: the one
it was built on. The package changes nothing but the files that it lists; the unit, the user and the folders are
systemd's to make.
"""

import argparse
import gzip
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from click.shell_completion import get_completion_class

from deploy.environment import BUILD, ROOT, build_environment, python_version
from deploy.manual import configuration_page, program_page
from idiolectd import __version__
from idiolectd.cli import group

PREFIX = Path("/usr/lib/idiolectd")
DEBIAN = Path(__file__).parent / "debian"
UNITS = ROOT / "idiolectd" / "units"
CONFIGURATION = "etc/idiolectd/config.toml"


def build_package(folder: Path, revision: int = 1) -> Path:
    """Builds the package.

    Args:
        folder: where to put it.
        revision: the number after the program's version.

    Returns:
        Its file.

    Raises:
        subprocess.CalledProcessError: pip or dpkg-deb refused; standard error has their words.
    """
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    version = f"{__version__}-{revision}"
    package = folder / f"idiolectd_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        build_environment(root, PREFIX)
        _write_files(root, version)
        _write_control(root, version, architecture)
        subprocess.run(
            ["dpkg-deb", "-Zgzip", "--root-owner-group", "--build", root, package],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return package


def _write_files(root: Path, version: str) -> None:
    program = root / "usr/bin/idiolectd"
    program.parent.mkdir(parents=True)
    program.symlink_to(os.path.relpath(PREFIX / "bin/idiolectd", "/usr/bin"))
    units = {
        "config.toml": CONFIGURATION,
        "idiolectd.service": "usr/lib/systemd/system/idiolectd.service",
        "idiolectd.sysusers.conf": "usr/lib/sysusers.d/idiolectd.conf",
        "idiolectd.tmpfiles.conf": "usr/lib/tmpfiles.d/idiolectd.conf",
        "notify-reload.conf": "usr/share/idiolectd/notify-reload.conf",
    }
    for name, path in units.items():
        _write(root / path, (UNITS / name).read_text())
    _write_gzip(root / "usr/share/man/man1/idiolectd.1.gz", program_page())
    _write_gzip(root / "usr/share/man/man5/idiolectd.toml.5.gz", configuration_page())
    _write(root / "usr/share/bash-completion/completions/idiolectd", _completion("bash"))
    _write(root / "usr/share/zsh/vendor-completions/_idiolectd", _completion("zsh"))
    _write(root / "usr/share/fish/vendor_completions.d/idiolectd.fish", _completion("fish"))
    documents = root / "usr/share/doc/idiolectd"
    for document in (ROOT / "README.md", ROOT / "config.example.toml", *sorted((ROOT / "docs").glob("*.md"))):
        _write(documents / document.relative_to(ROOT), document.read_text())
    for example in sorted((ROOT / "examples").glob("*.py")):
        _write(documents / "examples" / example.name, example.read_text())
    _write_gzip(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    _write_gzip(
        documents / "changelog.Debian.gz",
        f"idiolectd ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n",
    )
    _, copyright_line, *license_text = [part for part in (ROOT / "LICENSE").read_text().split("\n\n") if part]
    _write(
        documents / "copyright",
        (DEBIAN / "copyright")
        .read_text()
        .format(
            copyright=copyright_line.removeprefix("Copyright (c) "),
            license="\n .\n".join(
                "\n".join(f" {line}" for line in part.strip().splitlines()) for part in license_text
            ),
        ),
    )


def _completion(shell: str) -> str:
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 - one of click's own
    return completion(group, {}, "idiolectd", "_IDIOLECTD_COMPLETE").source()


def _write_control(root: Path, version: str, architecture: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    major, minor = python_version()
    control = root / "DEBIAN"
    control.mkdir()
    values = {
        "version": version,
        "architecture": architecture,
        "size": sum(path.stat().st_size for path in files) // 1024,
        "python": f"{major}.{minor}",
        "next_python": f"{major}.{minor + 1}",
    }
    _write(control / "control", (DEBIAN / "control").read_text().format(**values))
    _write(control / "conffiles", f"/{CONFIGURATION}\n")
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
        if path != root / CONFIGURATION
    )
    _write(control / "md5sums", "".join(sums))
    for script in ("postinst", "prerm", "postrm"):
        _write(control / script, (DEBIAN / script).read_text())
        (control / script).chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_gzip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deploy.deb", description=__doc__.splitlines()[0])
    parser.add_argument("--revision", type=int, default=1, help="the number after the program's version")
    BUILD.mkdir(exist_ok=True)
    os.umask(0o022)
    print(build_package(BUILD, parser.parse_args().revision))
