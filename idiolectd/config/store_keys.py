"""The keys that seal a store's secrets: their IDs, and where they are stored.

This module reads a key's text; `idiolectd.store.key_ring` understands it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from idiolectd.config import value_kinds
from idiolectd.config.key_places import PLACES, Place, named_place, read_key
from idiolectd.config.value_kinds import InvalidValue, ValueKind

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it stands between colons in each sealed text


@dataclass(frozen=True)
class StoreKeyConfig:
    """Where one key is stored.

    Attributes:
        id: what sealed texts call it.
        place: the kind of place that `name` names.
        name: a path, or the name of a credential or an environment variable.
    """

    id: str
    place: Place
    name: str

    def read(self, environ: Mapping[str, str]) -> str:
        """Reads the key's text.

        Raises:
            ConfigError: the key is missing, unreadable, empty, or open to every user of the host.
        """
        return read_key(self.place, self.name, f"store.keys: key {self.id}", environ)


def _key_id(value: object) -> str:
    text = value_kinds.string(value)
    if _ID.fullmatch(text) is None:
        raise ValueError
    return text


def _make_key(values: dict[str, Any]) -> StoreKeyConfig:
    place = named_place(values)
    if "id" not in values or place is None:
        raise InvalidValue(("", "expected id, and one of file, credential or env"))
    return StoreKeyConfig(values["id"], *place)


_TABLES = value_kinds.table_list(
    "a list of tables { id, and one of file, credential or env }",
    {"id": value_kinds.made("1 to 64 of A-Z a-z 0-9 . _ -", _key_id), **PLACES},
    _make_key,
)


def _check(value: object) -> tuple[StoreKeyConfig, ...]:
    keys: tuple[StoreKeyConfig, ...] = _TABLES.check(value)
    ids = [key.id for key in keys]
    for key_id in ids:
        if ids.count(key_id) > 1:
            raise InvalidValue(("", f"two keys have the id {value_kinds.shown(key_id)}"))
    return keys


STORE_KEYS = ValueKind(_TABLES.allowed, _check)
