"""Columns as a connection hands them out: SQLite takes anything anywhere, and foreign programs write too."""

from pathlib import Path

from idiolectd.did import parse_did
from idiolectd.errors import DidError

Value = str | bytes | float | int | None


def place_of(database: Path, did: str) -> str:
    """How messages name a row."""
    return f"{database}, table sessions, {did}"


def text_of(value: object) -> bytes | None:
    """A column as it comes from a connection that hands out text as bytes; None: missing.

    What is neither text nor bytes (SQLite takes anything anywhere) becomes unreadable text.
    """
    return value if value is None or isinstance(value, bytes) else b""


def did_of(key: object) -> str | None:
    """The DID of a row; None: foreign programs may have stored anything as a key, which is none of ours."""
    text = text_of(key)
    try:
        return None if text is None else parse_did(text.decode("ascii", "replace"))
    except DidError:
        return None
