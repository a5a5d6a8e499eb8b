"""Where client programs say that their newest access token is refused: a folder that they may add files to.

A session that was ended elsewhere is then looked at within seconds, not when it is due. One word is an empty file, and
all of it is in the name::

    DID~HASH        HASH: SHA-256 of the access token, base64url without padding

The daemon takes the files away, and reads none. Nothing that they say is believed: the token has to be the stored
one, and the PDS is asked. Everything here blocks.
"""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from idiolectd.did import parse_did
from idiolectd.errors import DidError
from idiolectd.store.access import RecordAccess
from idiolectd.store.durable import Access, grant


@dataclass(frozen=True)
class ToldRefusal:
    """What a client says.

    Attributes:
        did: whose session.
        access_token_hash: of the token that was refused (`idiolectd.jose.token_hash`).
    """

    did: str
    access_token_hash: str


class Refusals:
    """The daemon's end.

    Args:
        place: the folder; made if it is not there.
        access: who may add to it.
    """

    def __init__(self, place: Path, access: RecordAccess) -> None:
        self.place = place
        self._access = access

    def open(self) -> None:
        """Makes the folder.

        Raises:
            OSError: it can't be made, or is no folder of ours.
        """
        with suppress(FileExistsError):
            self.place.mkdir(0o700)
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise PermissionError(1, "belongs to another user", str(self.place))
            # Members add files; they neither list nor remove what others have added.
            access = self._access.within(self.place.parent)
            grant(fd, Access(0o1730 if access.mode & stat.S_IRGRP else 0o700, access.gid))
        finally:
            os.close(fd)

    def take(self, limit: int) -> list[ToldRefusal]:
        """Takes words away until so many were understood, or nothing is left that can be taken; returns them.

        Raises:
            OSError: the folder can't be read.
        """
        with os.scandir(self.place) as entries:
            words = (_parsed(entry.name) for entry in entries if _taken_away(entry))
            return list(islice((word for word in words if word is not None), limit))


def _taken_away(entry: "os.DirEntry[str]") -> bool:
    """Removes what lies there; no link is followed. False: somebody's folder that is not empty, which stays."""
    try:
        if entry.is_dir(follow_symlinks=False):
            Path(entry.path).rmdir()
        else:
            Path(entry.path).unlink()
    except OSError:
        return False
    return True


def _parsed(name: str) -> ToldRefusal | None:
    did, _, token_hash = name.partition("~")
    try:
        return ToldRefusal(parse_did(did), token_hash)
    except DidError:
        return None
