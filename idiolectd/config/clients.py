"""Confidential OAuth clients: which private keys they have, and where the keys are stored.

A key is read from a file, a systemd credential or an environment variable, never from the configuration file.
This module reads the key's text; `idiolectd.oauth` parses it.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from idiolectd.config import url_values, value_kinds
from idiolectd.config.value_kinds import InvalidValue
from idiolectd.errors import ConfigError

_MAX_KEY = 65_536  # bytes; an RSA key of 16,384 bits in PEM is an eighth of it

# systemd mounts a running service's credentials here, readable for the service's user (systemd.exec(5)).
_SYSTEM_CREDENTIALS = Path("/run/credentials")
_UNIT = "idiolectd.service"

Place = Literal["file", "credential", "env"]
_PLACES: tuple[Place, ...] = ("file", "credential", "env")


@dataclass(frozen=True)
class ClientKeyConfig:
    """Where one private key is stored.

    Attributes:
        kid: its key ID in the client's published JWKS.
        place: the kind of place that `name` names.
        name: a path, or the name of a credential or an environment variable.
    """

    kid: str
    place: Place
    name: str

    def read(self, environ: Mapping[str, str]) -> str:
        """Reads the key's text, PEM or JWK.

        Raises:
            ConfigError: the key is missing, unreadable, empty, or open to every user of the host.
        """
        what = f"oauth.clients: key {self.kid}"
        match self.place:
            case "env":
                text = environ.get(self.name, "")
                if not text.strip():
                    raise ConfigError(f"{what}: the environment variable {self.name} is not set")
                return text
            case "credential":
                path = _credential_path(self.name, environ)
                if path is None:
                    raise ConfigError(
                        f"{what}: the credential {self.name} is there only while the service runs whose unit has"
                        f" LoadCredential={self.name}:PATH; run: systemctl start idiolectd (or use `file`)"
                    )
                return _read(path, what)
            case "file":
                return _read(Path(self.name), what)


@dataclass(frozen=True)
class ClientConfig:
    """One confidential client.

    Attributes:
        client_id: the URL of its metadata document.
        keys: its private keys; the first signs for new sessions.
        redirect_uri: the redirect URI of its logins; None: the client is not used to log in.
        name: the client's name on the consent page; None: the page shows the client_id only.
    """

    client_id: str
    keys: tuple[ClientKeyConfig, ...]
    redirect_uri: str | None = None
    name: str | None = None


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


def _make_key(values: dict[str, Any]) -> ClientKeyConfig:
    places = [place for place in _PLACES if place in values]
    if "kid" not in values or len(places) != 1:
        raise InvalidValue(("", "expected kid, and one of file, credential or env"))
    return ClientKeyConfig(values["kid"], places[0], values[places[0]])


def _make_client(values: dict[str, Any]) -> ClientConfig:
    if "client_id" not in values or not values.get("keys"):
        raise InvalidValue(("", "expected client_id and at least one key in keys"))
    seen: set[str] = set()
    for key in values["keys"]:
        if key.kid in seen:
            raise InvalidValue((".keys", f"two keys have the kid {value_kinds.shown(key.kid)}"))
        seen.add(key.kid)
    return ClientConfig(**values)


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


_KEYS = value_kinds.table_list(
    "a list of tables { kid, and one of file, credential or env }",
    {
        "kid": value_kinds.text("a key ID"),
        "file": value_kinds.made("an absolute path", _absolute),
        "credential": value_kinds.made("the name of a systemd credential", _credential),
        "env": value_kinds.text("the name of an environment variable"),
    },
    _make_key,
)

CLIENTS = value_kinds.table_list(
    "a list of tables { client_id, keys }, and redirect_uri and name if one logs in with it",
    {
        "client_id": url_values.client_id(),
        "keys": _KEYS,
        "redirect_uri": url_values.redirect_uri(),
        "name": value_kinds.text("a name for people"),
    },
    _make_client,
)
