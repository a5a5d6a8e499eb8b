"""Notes what a command has done to a session, so that the daemon's log tells it too."""

import os
import pwd
from contextlib import suppress
from typing import TYPE_CHECKING

from idiolectd.clock import rfc3339
from idiolectd.errors import StoreError
from idiolectd.events import SessionCommand, about_did
from idiolectd.finish import in_thread
from idiolectd.session import OAuthSession
from idiolectd.store import note_command

if TYPE_CHECKING:
    from idiolectd.parts import Parts


def _user() -> str:
    """Returns who types: with sudo the user before it."""
    name = str(os.getuid())
    with suppress(KeyError):
        name = pwd.getpwuid(os.getuid()).pw_name
    before = os.environ.get("SUDO_USER")
    return f"{before} (sudo)" if before and os.getuid() == 0 else name


# Found out when the program starts: later the command may have become the store's owner.
_TYPED_BY = _user()


async def note(
    parts: "Parts",
    did: str,
    command: str,
    result: str = "done",
    *,
    session: OAuthSession | None = None,
    code: str | None = None,
    error: str | None = None,
) -> None:
    """Notes it; never raises.

    Args:
        parts: know the store.
        did: whose session.
        command: the command's name.
        result: what came of it, in one word.
        session: the record; None: as it is stored now.
        code: a short name of what went wrong.
        error: what went wrong.
    """
    if parts.store.runtime_dir is None:
        return
    if session is None:
        with suppress(StoreError):
            session = await parts.store.load(did)
    event = SessionCommand(
        **about_did(did, session),
        command=command,
        result=result,
        code=code,
        error=error,
        user=_TYPED_BY,
        pid=os.getpid(),
        at=rfc3339(parts.clock.now()),
    )
    await in_thread(note_command, parts.store.runtime_dir, event)
