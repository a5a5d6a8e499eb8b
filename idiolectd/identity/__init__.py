"""Accounts: handle, DID, PDS."""

from idiolectd.identity.resolve import (
    INVALID_HANDLE,
    Account,
    DidDocument,
    Identity,
    parse_handle,
)
from idiolectd.identity.txt import DnsTxt, TxtLookup

__all__ = [
    "INVALID_HANDLE",
    "Account",
    "DidDocument",
    "DnsTxt",
    "Identity",
    "TxtLookup",
    "parse_handle",
]
