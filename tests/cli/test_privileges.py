"""Root and other users' places: whom a command becomes, and what it refuses."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from idiolectd.cli.exits import CommandFailed
from idiolectd.cli.named_place import StoreOwner, look_at
from idiolectd.cli.privileges import environment_of
from tests.cli.conftest import Pds, Run, put_record
from tests.users import NOBODY, OTHER

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder of root's that everybody can enter, as /var/lib."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def make(path: Path, uid: int, mode: int = 0o700) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def link(path: Path, target: Path, uid: int) -> Path:
    path.symlink_to(target)
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def owner_of(path: Path) -> StoreOwner:
    return look_at(path).owner


def test_whose_place_it_is(ground: Path) -> None:
    """The owner of what is there, or of the nearest folder above; root's links are followed, nobody else's."""
    service = make(ground / "service", NOBODY, 0o755)
    roots = make(ground / "roots", 0)
    assert owner_of(roots).uid == 0
    assert owner_of(roots / "to" / "come").uid == 0
    assert owner_of(service).uid == NOBODY
    assert owner_of(service / "to" / "come").uid == NOBODY
    assert owner_of(link(ground / "operators", service, 0)).uid == NOBODY
    assert owner_of(ground / "operators" / "store").uid == NOBODY
    assert owner_of(link(ground / "relative", Path("roots/../service"), 0)).uid == NOBODY
    assert owner_of(link(service / "out", roots, NOBODY)).uid == NOBODY
    assert owner_of(service / "out" / "below").uid == NOBODY
    assert owner_of(link(ground / "others", roots, OTHER) / "below").uid == OTHER
    assert look_at(service / "to" / "come").missing == ("to", "come")
    assert look_at(roots).missing == ()
    with pytest.raises(OSError, match="levels of symbolic links"):
        owner_of(link(ground / "loop", Path("loop"), 0))


def test_what_somebody_else_can_replace_is_not_opened(ground: Path) -> None:
    """Root's own file in a service's folder, or where every user may rename: it could be a link a moment later."""
    service = make(ground / "service", NOBODY)
    make(service / "restored", 0)
    with pytest.raises(CommandFailed, match=r"chown -h \w+ .*/service/restored"):
        owner_of(service / "restored")
    make(service / "of-another", OTHER)
    with pytest.raises(CommandFailed, match=r"chown -h nobody .*/service/of-another"):
        owner_of(service / "of-another" / "store")
    link(service / "roots", ground, 0)
    with pytest.raises(CommandFailed, match="not opened as root"):
        owner_of(service / "roots" / "store")
    with pytest.raises(CommandFailed, match="every user"):
        owner_of(make(make(ground / "open", 0, 0o777) / "store", 0))
    assert owner_of(make(make(ground / "sticky", 0, 0o1777) / "store", 0)).uid == 0


def test_the_environment_is_that_users() -> None:
    """Nothing of root's home, sessions and agents; what was said about idiolectd stays."""
    environ = {
        "HOME": "/root",
        "XDG_STATE_HOME": "/root/state",
        "XDG_RUNTIME_DIR": "/run/user/0",
        "RUNTIME_DIRECTORY": "/run/other",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "IDIOLECTD_LOG__LEVEL": "debug",
        "ATPROTO_APP_PASSWORD": "p",
        "PATH": "/bin",
        "LC_ALL": "C",
    }
    found = environment_of(StoreOwner(NOBODY, NOBODY), environ)
    assert found.pop("HOME") not in ("", "/root")
    assert found.pop("USER") == found.pop("LOGNAME") == "nobody"
    assert found == {
        "IDIOLECTD_LOG__LEVEL": "debug",
        "ATPROTO_APP_PASSWORD": "p",
        "PATH": "/bin",
        "LC_ALL": "C",
    }
    assert environment_of(StoreOwner(OTHER, OTHER), environ)["HOME"] == "/"


def shape(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """What would show that somebody was there."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        about = path.lstat()
        found[str(path)] = (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid, about.st_mtime_ns)
    return found


@pytest.mark.parametrize("command", [["status"], ["login", "trap.test"], ["refresh", "--all"]])
def test_a_link_into_roots_own_folder_is_not_followed_as_root(
    ground: Path, pds: Pds, run_shared: Run, command: list[str]
) -> None:
    """Whoever owns the service's folder gets no folder of root's opened, grouped or written to."""
    pds.account("trap.test")
    roots = make(ground / "roots", 0)
    put_record(roots, pds.account("roots.test", oauth=1)["oauth"][0])
    before = shape(roots)
    trap = link(make(ground / "service", NOBODY) / "sessions", roots, NOBODY)
    done = run_shared(
        *command,
        env={
            "IDIOLECTD_STORE__URL": f"file://{trap}",
            "IDIOLECTD_STORE__GROUP": "nogroup",
            "ATPROTO_APP_PASSWORD": "pass-word",
        },
    )
    assert (done.code, "Permission denied" in done.err) == (1, True), done.err
    assert shape(roots) == before


def test_a_configuration_of_somebody_elses_gives_root_no_orders(ground: Path, run_process: Run) -> None:
    """`sudo` may keep the caller's home: what lies there is not root's configuration, unless it is named."""
    home = make(ground / "home", NOBODY)
    folder = make(home / ".config", NOBODY)
    file = make(folder / "idiolectd", NOBODY) / "config.toml"
    file.write_text("")
    os.chown(file, NOBODY, NOBODY)
    done = run_process("list", env={"HOME": str(home)})
    assert (done.code, f"--config {file}" in done.err) == (2, True), done.err
    assert run_process("list", "--config", str(file), env={"HOME": str(home)}).code == 0
