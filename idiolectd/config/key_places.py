"""Where a private key is kept: a file, a systemd credential or an environment variable, never the configuration."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from idiolectd.config import value_kinds
from idiolectd.errors import ConfigError

_MAX_KEY = 65_536  # bytes; an RSA key of 16,384 bits in PEM is an eighth of it

# systemd mounts a running service's credentials here, readable for the service's user (systemd.exec(5)).
_SYSTEM_CREDENTIALS = Path("/run/credentials")
_UNIT = "idiolectd.service"

Place = Literal["file", "credential", "env"]
_PLACES: tuple[Place, ...] = ("file", "credential", "env")


def read_key(place: Place, name: str, what: str, environ: Mapping[str, str]) -> str:
    """Reads a key's text.

    Args:
        place: the kind of place that `name` names.
        name: a path, or the name of a credential or an environment variable.
        what: which key, for people.
        environ: the environment variables.

    Raises:
        ConfigError: the key is missing, unreadable, empty, or open to every user of the host.
    """
    match place:
        case "env":
            text = environ.get(name, "")
            if not text.strip():
                raise ConfigError(f"{what}: the environment variable {name} is not set")
            return text
        case "credential":
            path = _credential_path(name, environ)
            if path is None:
                raise ConfigError(
                    f"{what}: the credential {name} is there only while the service runs whose unit has"
                    f" LoadCredential={name}:PATH; run: systemctl start idiolectd (or use `file`)"
                )
            return _read(path, what)
        case "file":
            return _read(Path(name), what)


def named_place(values: Mapping[str, Any]) -> tuple[Place, str] | None:
    """The place that a table names; None: none, or several."""
    places = [place for place in _PLACES if place in values]
    return (places[0], values[places[0]]) if len(places) == 1 else None


def _credential_path(name: str, environ: Mapping[str, str]) -> Path | None:
    """Returns where a credential is: this unit's, or, for a command that a person types, the running service's.

    Without the service: None; what $CREDENTIALS_DIRECTORY names is returned in any case.
    """
    own = environ.get("CREDENTIALS_DIRECTORY")
    users = Path(f"/run/user/{os.geteuid()}/credentials")
    folders = [Path(own)] if own else []
    folders += [place / _UNIT for place in (_SYSTEM_CREDENTIALS, users)]
    there = (folder / name for folder in folders if os.path.exists(folder / name))  # noqa: PTH110 - no error
    return next(there, Path(own) / name if own else None)


def _read(path: Path, what: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{what}: {path} is not a file")
            if mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigError(f"{what}: every user can open {path}; run: chmod o-rwx {path}")
            text = file.read(_MAX_KEY + 1).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{what}: can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what}: {path} is not text; expected PEM or a JWK") from None
    if len(text) > _MAX_KEY or not text.strip():
        raise ConfigError(f"{what}: {path} is {'too long for' if text.strip() else 'empty, not'} a key")
    return text


def _absolute(value: object) -> str:
    path = value_kinds.string(value)
    if not path.startswith("/"):
        raise ValueError
    return path


def _credential(value: object) -> str:
    name = value_kinds.string(value)
    if "/" in name or name in (".", ".."):  # joined to $CREDENTIALS_DIRECTORY
        raise ValueError
    return name


# The keys of a table that names a place.
PLACES = {
    "file": value_kinds.made("an absolute path", _absolute),
    "credential": value_kinds.made("the name of a systemd credential", _credential),
    "env": value_kinds.text("the name of an environment variable"),
}
