"""The limit of open files, and how many refreshes may be in flight within it."""

import contextlib
import resource

from idiolectd.scheduler import FEWEST_PLACES

# How many open files are asked for at most, if the hard limit allows that many.
_MOST_FILES = 65_536

# What stays free of the limit: for the store, the log and name lookups, and for connections that are kept a
# second (`idiolectd.http.origin_pools`).
_RESERVED = 128 + 256

# A refresh in flight has a connection, and a file that it writes.
_FILES_EACH = 2

# However many files there may be: their answers want to be read in time, by one process.
_MOST_PLACES = 1024


def raise_limit() -> int:
    """Raises the soft limit of open files to the hard one; returns what it is now.

    Each issuer may have some connections; the usual soft limit of 1,024 is for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return most
    return soft if soft != resource.RLIM_INFINITY else _MOST_FILES


def places_within(files: int) -> int:
    """How many refreshes may be in flight at all servers together with so many open files."""
    return max(FEWEST_PLACES, min(_MOST_PLACES, (files - _RESERVED) // _FILES_EACH))
