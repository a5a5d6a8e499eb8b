"""Whether a daemon refreshes a store, and which command starts one: the system's service, the user's, or `run`."""

from pathlib import Path

from idiolectd.cli.output import say
from idiolectd.config import SYSTEM_FILE, Config
from idiolectd.ports import SharedStore
from idiolectd.store import is_daemon_running

_UNIT = "idiolectd.service"
# systemd.unit(5), without the folders of generated and transient units.
_SYSTEM_UNITS = tuple(
    map(Path, ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"))
)
_USER_UNITS = (
    *(
        Path("~", *folder)
        for folder in ((".config", "systemd", "user"), (".local", "share", "systemd", "user"))
    ),
    *map(Path, ("/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")),
)
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


def say_who_refreshes(config: Config, store: SharedStore) -> None:
    """Says that the store's daemon keeps its sessions alive, or how to start one.

    Raises:
        StoreError: it can't be told.
    """
    if is_daemon_running(store.runtime_dir):
        say("the daemon that runs on this store keeps the session alive")
    else:
        start = start_command(config)
        say(f"no daemon runs on this store, so nothing keeps the session alive; run: {start}")
        if _BOOTED.is_dir() and start == config.commands.typed("run") and config.path != SYSTEM_FILE:
            unit = config.commands.typed("unit", "--write")
            say(f"or, for a service of your own, which runs from then on: {unit}")


def start_command(config: Config) -> str:
    """Returns the command that starts the daemon of the configured store, for the user who typed this one."""
    if _BOOTED.is_dir():
        if config.store_named_by == str(SYSTEM_FILE) and _has_unit(_SYSTEM_UNITS):
            return "systemctl enable --now idiolectd"
        # It has neither options nor this shell's variables.
        if config.path != SYSTEM_FILE and not config.commands.options and _has_unit(_USER_UNITS):
            return "systemctl --user enable --now idiolectd"
    return config.commands.typed("run")


def _has_unit(folders: tuple[Path, ...]) -> bool:
    return any((folder.expanduser() / _UNIT).is_file() for folder in folders)
