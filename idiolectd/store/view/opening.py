"""From a view's URL to what writes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from idiolectd.store.access import RecordAccess
from idiolectd.store.view.database_view import DatabaseView
from idiolectd.store.view.folder_view import FolderView
from idiolectd.store.view.refusals import Refusals
from idiolectd.store_url import parse_store_url


class View(Protocol):
    """Writes a view. Everything blocks, and raises `OSError` or `sqlite3.Error`; see the package."""

    @property
    def place(self) -> Path:
        """Where it is, for people."""
        ...

    @property
    def refusals(self) -> Refusals:
        """Where its readers say that a token is refused."""
        ...

    def open(self) -> None:
        """Makes what is missing, and gives it to whom it belongs."""
        ...

    def write(self, entries: Mapping[str, bytes | None]) -> dict[str, str]:
        """Replaces the entries of some DIDs, and removes those that are None.

        Returns:
            Why an entry can't be in this view, by DID, for those that can't.
        """
        ...

    def left_over(self) -> list[str]:
        """The DIDs of entries that were not written since `open`."""
        ...

    def close(self) -> None:
        """Lets go of what is open; the entries stay."""
        ...


def make_view(url: str, *, group: str | None) -> View:
    """What writes the view of this URL; opens nothing yet.

    Args:
        url: see `idiolectd.store_url.parse_store_url`; not ``memory:``.
        group: a group whose members may read it; None: nobody but the daemon's user.

    Raises:
        ConfigError: it is no such URL.
        StoreError: there is no such group.
    """
    parsed = parse_store_url(url)
    access = RecordAccess(group, "clients.group")
    return DatabaseView(parsed.path, access) if parsed.kind == "sqlite" else FolderView(parsed.path, access)
