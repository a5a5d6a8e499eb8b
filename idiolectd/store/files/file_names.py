"""Finds the DID that belongs to a record's file name: the reverse of `idiolectd.did.file_name`."""

import re

from idiolectd.did import file_name, parse_did, upstream_file_name
from idiolectd.errors import DidError

_RECORD = re.compile(r"did_([a-z]+)_([A-Za-z0-9._~%-]+)\.json", re.ASCII)


def did_of(name: str) -> str | None:
    """The one DID that a file name can belong to; None if only the file's content can tell."""
    found = _RECORD.fullmatch(name)
    if found is None or "_" in found[2]:
        return None
    did = f"did:{found[1]}:{found[2].replace('~3A', ':').replace('~5F', '_')}"
    return did if belongs(name, did) else None


def belongs(name: str, did: str) -> bool:
    """Whether a store looks for the record of this DID under this name."""
    try:
        return name in (file_name(parse_did(did)), upstream_file_name(did))
    except DidError:
        return False


def guess_did(name: str) -> str | None:
    """The likeliest DID of an unreadable file, by its name.

    A ``_`` in upstream's names was a ``:`` or a ``_``; a host name (did:web) has no underscores.
    """
    found = _RECORD.fullmatch(name)
    if found is None:
        return None
    did = f"did:{found[1]}:{found[2].replace('_', ':')}"
    return did if belongs(name, did) else None
