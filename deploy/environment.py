"""``python -m deploy.environment ROOT PREFIX``: builds the environment that a service runs from.

It is built below a folder that stands for the root folder, and works where that is the root folder.

``/usr/lib/idiolectd`` of the package is one, and ``/opt/idiolectd`` of a container is another. What is in it
comes from wheels whose hashes are in ``requirements.lock``; nothing is compiled, and nothing is downloaded later.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
BUILD = ROOT / "build"

# Wheels with C code are for one version of Python: that of the system on which the environment is built.
PYTHON = Path("/usr/bin/python3")


def python_version() -> tuple[int, int]:
    """Returns the version of the system's Python."""
    major, minor = _output(PYTHON, "-I", "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def build_environment(root: Path, prefix: Path) -> None:
    """Writes the environment so that it works where `root` is ``/``.

    Args:
        root: the folder that stands for the root folder.
        prefix: the environment's folder as the program will see it, an absolute path.

    Raises:
        subprocess.CalledProcessError: pip refused, for want of a wheel or because of a hash.
    """
    major, minor = python_version()
    target = root / prefix.relative_to("/")
    packages = target / "lib" / f"python{major}.{minor}" / "site-packages"
    seen = "/" / packages.relative_to(root)
    shutil.copytree(_locked_packages(seen), packages)
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel")
        _output(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
        (wheel,) = Path(folder).iterdir()
        shutil.unpack_archive(wheel, packages, "zip")
    _compile(packages / "idiolectd", seen / "idiolectd")
    (target / "bin").mkdir()
    (target / "bin" / "python3").symlink_to(PYTHON)
    program = target / "bin" / "idiolectd"
    # -I: neither a variable nor a folder of the caller's decides what is imported.
    program.write_text(f"#!{prefix}/bin/python3 -I\nfrom idiolectd.__main__ import main\n\nmain()\n")
    program.chmod(0o755)
    (target / "pyvenv.cfg").write_text(f"home = {PYTHON.parent}\ninclude-system-site-packages = false\n")


def _locked_packages(seen: Path) -> Path:
    """Returns a folder with all of the lock's distributions, to be seen as `seen`; made once for each lock."""
    key = hashlib.sha256(LOCK.read_bytes() + str(seen).encode()).hexdigest()[:16]
    kept = BUILD / f"site-packages-{key}"
    if not kept.exists():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            new = Path(folder) / "new"
            pip = (sys.executable, "-m", "pip", "--python", PYTHON, "--disable-pip-version-check", "--quiet")
            how = (
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-compile",
                "--root-user-action",
                "ignore",
            )
            _output(*pip, "install", *how, "--target", new, "--requirement", LOCK)
            shutil.rmtree(new / "bin", ignore_errors=True)  # programs with this machine's paths in them
            _compile(new, seen)
            new.rename(kept)
    return kept


def _compile(folder: Path, seen: Path) -> None:
    """Writes the compiled modules, which name `seen` as their folder; those are used without a look at the source."""
    how = ("-q", "-s", folder, "-p", seen, "--invalidation-mode", "unchecked-hash")
    _output(PYTHON, "-I", "-m", "compileall", *how, folder)


def _output(*command: str | os.PathLike[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    build_environment(Path(sys.argv[1]), Path(sys.argv[2]))
