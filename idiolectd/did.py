"""Checks the syntax of DIDs, and makes the file names of their records.

A DID is the key of every store. It comes from file contents, rows and people, so it is checked
here, once, before it becomes a path or a query.
"""

import re

from idiolectd.errors import DidError

# https://atproto.com/specs/did: lower-case method; no path, query or fragment. What can't match
# (slash, backslash, NUL, tilde, white space, anything not ASCII) can't escape a folder either.
_DID = re.compile(r"did:[a-z]+:[A-Za-z0-9._:%-]*[A-Za-z0-9._-]", re.ASCII)
MAX_LENGTH = 2048  # "maximum length of 2 KByte", same page

# The longest name that every Linux file system takes, in bytes, less room for a temporary suffix.
_MAX_FILE_NAME = 230


def parse_did(text: str) -> str:
    """Returns the text if it is a DID by the atproto syntax.

    Raises:
        DidError: it is not; the message shows what was found.
    """
    if len(text) > MAX_LENGTH or not _DID.fullmatch(text):
        shown = ascii(text if len(text) <= 80 else text[:77] + "...")
        raise DidError(f"not a DID: {shown}; expected did:METHOD:ID, as in did:plc:ewvi7nxzyoun6zhxrhs64oiz")
    return text


def is_meant_as_did(account: str) -> bool:
    """Whether an account's name is meant as a DID, valid or not: no handle begins like one."""
    return account.startswith("did:")


def directory(did: str) -> str:
    """Names the source of a DID's document: ``did:plc`` for the PLC directory, else the DID itself."""
    return "did:plc" if did.startswith("did:plc:") else did


def upstream_file_name(did: str) -> str:
    """The name that idiolect-oauth's filesystem store gives the record of this DID."""
    return re.sub(r"[:/\\\0]", "_", did) + ".json"


def file_name(did: str) -> str:
    """The name that our filesystem store gives the record of this DID.

    Upstream's, where that name can belong to one DID only. A ``:`` or ``_`` inside the
    method-specific part makes it ambiguous (``did:web:a:b.example`` and ``did:web:a_b.example``
    share one file there, and the second save destroys the first session), so there both are
    escaped, behind a ``~``, which no DID contains.

    Raises:
        DidError: the name would be longer than file systems allow.
    """
    method, _, rest = did.removeprefix("did:").partition(":")
    name = f"did_{method}_{rest.replace(':', '~3A').replace('_', '~5F')}.json"
    if len(name) > _MAX_FILE_NAME:
        raise DidError(f"{did[:60]}... is too long for a file name; keep this account in a SQLite store")
    return name
