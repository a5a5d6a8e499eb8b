"""Which command starts the daemon of a store on this host."""

from pathlib import Path

from idiolectd.config import Config
from idiolectd.config.load import SYSTEM_FILE

_UNIT = "idiolectd.service"
_SYSTEM_UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_USER_UNITS = ("/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")


def start_command(config: Config) -> str:
    """Returns it: the unit where one is installed for this configuration, else ``idiolectd run``.

    A unit reads the configuration that a plain command reads. So it is no help where a command needs options
    to find the store.
    """
    if not config.commands.options:
        if config.path == SYSTEM_FILE:
            if _has_unit(_SYSTEM_UNITS):
                return "systemctl start idiolectd"
        elif _has_unit((*_USER_UNITS, str(Path("~/.config/systemd/user").expanduser()))):
            return "systemctl --user start idiolectd"
    return config.commands.typed("run")


def _has_unit(folders: tuple[str, ...]) -> bool:
    return any((Path(folder) / _UNIT).is_file() for folder in folders)
