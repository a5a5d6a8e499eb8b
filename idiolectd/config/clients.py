"""Confidential OAuth clients: which private keys they have, and where the keys are stored.

A key is read from a file, a systemd credential or an environment variable, never from the configuration file.
This module reads the key's text; `idiolectd.oauth` parses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idiolectd.config import url_values, value_kinds
from idiolectd.config.key_places import PLACES, Place, named_place, read_key
from idiolectd.config.value_kinds import InvalidValue


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
        return read_key(self.place, self.name, f"oauth.clients: key {self.kid}", environ)


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


def _make_key(values: dict[str, Any]) -> ClientKeyConfig:
    place = named_place(values)
    if "kid" not in values or place is None:
        raise InvalidValue(("", "expected kid, and one of file, credential or env"))
    return ClientKeyConfig(values["kid"], *place)


def _make_client(values: dict[str, Any]) -> ClientConfig:
    if "client_id" not in values or not values.get("keys"):
        raise InvalidValue(("", "expected client_id and at least one key in keys"))
    seen: set[str] = set()
    for key in values["keys"]:
        if key.kid in seen:
            raise InvalidValue((".keys", f"two keys have the kid {value_kinds.shown(key.kid)}"))
        seen.add(key.kid)
    return ClientConfig(**values)


_KEYS = value_kinds.table_list(
    "a list of tables { kid, and one of file, credential or env }",
    {
        "kid": value_kinds.text("a key ID"),
        **PLACES,
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
