"""Makes the keys of a store from its configuration, and new ones."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from idiolectd.errors import ConfigError
from idiolectd.store.sealing import AS_STORED, KEY_BYTES, NO_KEYS, Keys, SealingKey

if TYPE_CHECKING:
    from idiolectd.config import StoreConfig
    from idiolectd.config.store_keys import StoreKeyConfig


def read_keys(config: "StoreConfig", environ: Mapping[str, str] | None = None) -> Keys:
    """The keys of a store.

    Args:
        config: the section ``[store]``.
        environ: the environment variables; None: this process's.

    Raises:
        ConfigError: one of them can't be read, or is none.
    """
    if not config.keys:
        return NO_KEYS
    return Keys([_read(key, os.environ if environ is None else environ) for key in config.keys])


def read_keys_at_hand(config: "StoreConfig", environ: Mapping[str, str] | None = None) -> Keys:
    """Those keys of a store that can be read, for a command that works without, and leaves sealed what it can't open."""
    found = []
    for key in config.keys:
        try:
            found.append(_read(key, os.environ if environ is None else environ))
        except ConfigError:  # a service's credential, say; `idiolectd check` says so
            continue
    return Keys(found, leaves_sealed=True) if found else AS_STORED


def write_new_key(path: Path) -> None:
    """Writes a new random key to a new file that only its owner may read.

    Raises:
        OSError: it can't be made, or is there.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(fd)


def _read(key: "StoreKeyConfig", environ: Mapping[str, str]) -> SealingKey:
    try:
        secret = base64.b64decode(key.read(environ).strip(), validate=True)
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise ConfigError(
            f"store.keys: key {key.id} is not {KEY_BYTES} bytes in base64; make one with: idiolectd rekey --new-key FILE"
        )
    return SealingKey(key.id, secret)
