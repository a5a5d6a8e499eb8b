"""Stores that a test fills: one in memory, and a folder for programs that are given a store's URL."""

from pathlib import Path

from idiolectd.did import file_name
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore


class MemoryStore(InMemoryOAuthTokenStore):
    """An open store that needs no event loop to be made or filled. `SessionAuth` takes it, in any kind of client.

    Args:
        sessions: what it holds at first.
    """

    def __init__(self, *sessions: OAuthSession) -> None:
        super().__init__()
        for session in sessions:
            self.put(session)

    def put(self, session: OAuthSession) -> None:
        """Stores a session in place of the account's former one, as it is."""
        self._records[session.did] = session.to_json().encode()
        self._report(session.did)

    def remove(self, did: str) -> None:
        """Removes an account's session, as a logout does."""
        self._forget(did)
        self._report(did)


def write_session(folder: Path, session: OAuthSession) -> str:
    """Writes a session into a filesystem store, whole, as the daemon does; returns the store's URL.

    Args:
        folder: the store; made if it is not there.
        session: takes the place of the account's former one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".draft"
    draft.write_text(session.to_json(), encoding="utf-8")
    draft.replace(folder / file_name(session.did))
    return f"file://{folder.absolute()}"
