"""Store URLs: what they mean, and how a path is written as one.

The one grammar for configuration, command line and library. It asks the disk one thing: whether a plain path
is a folder.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

from idiolectd.errors import ConfigError

_EXPECTED = "expected sqlite:///PATH, file:///DIR, a path, or memory:"


@dataclass(frozen=True)
class StoreUrl:
    """A parsed store URL.

    Attributes:
        kind: which store.
        path: the database or the folder, absolute; `/` for ``memory``.
    """

    kind: Literal["sqlite", "file", "memory"]
    path: Path

    def __str__(self) -> str:
        return "memory:" if self.kind == "memory" else f"{self.kind}://{quote(os.fsencode(self.path))}"


def is_plain_path(text: str) -> bool:
    """Whether a text that names a store is a path, and no URL."""
    return not text.startswith(("sqlite:", "file:", "memory:")) and "://" not in text


def parse_store_url(text: str, *, is_folder: Callable[[Path], bool] = Path.is_dir) -> StoreUrl:
    """Reads a store URL, or a plain path.

    URLs are absolute and may be percent-encoded (RFC 8089); three and four slashes mean the same. A path
    is bytes, whatever the locale: what is no UTF-8 is written percent-encoded, and read again. A plain path
    is a filesystem store if it is a folder or ends in a slash, else an SQLite database.

    Args:
        text: the URL or path.
        is_folder: whether a plain path is a folder.

    Raises:
        ConfigError: it is neither, or names the root folder.
    """
    if text == "memory:":
        return StoreUrl("memory", Path("/"))
    if not is_plain_path(text):
        scheme, _, rest = text.partition(":")
        if scheme not in ("sqlite", "file"):  # what follows may hold a password
            raise ConfigError(f"there are no stores of the kind {scheme}:; {_EXPECTED}")
        kind: Literal["sqlite", "file"] = "sqlite" if scheme == "sqlite" else "file"
        path = _unquoted(rest.removeprefix("//localhost").removeprefix("//"))
        if not rest.startswith("//") or not path.startswith("/") or path.strip("/") == "" or "\0" in path:
            raise ConfigError(f"store URL {text!r} has no absolute path; {_EXPECTED}")
        return StoreUrl(kind, Path("/" + path.lstrip("/")))
    if not text.strip("/ ") or "\0" in text:
        raise ConfigError(f"{text!r} is not a store URL; {_EXPECTED}")
    plain = Path(text).expanduser().absolute()
    return StoreUrl("file" if text.endswith("/") or is_folder(plain) else "sqlite", plain)


def _unquoted(text: str) -> str:
    try:
        return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
    except UnicodeEncodeError:
        raise ConfigError(f"store URL {text!a} holds characters that no path has; {_EXPECTED}") from None
