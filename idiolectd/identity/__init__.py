"""Accounts: handle, DID, PDS."""

from idiolectd.identity.resolve import (
    INVALID_HANDLE,
    Account,
    Identity,
    parse_handle,
)
from idiolectd.identity.txt import DnsTxt, TxtLookup

__all__ = [
    "INVALID_HANDLE",
    "Account",
    "DnsTxt",
    "Identity",
    "TxtLookup",
    "parse_handle",
]
