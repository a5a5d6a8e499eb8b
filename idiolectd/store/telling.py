"""How a client program says that its newest access token is refused. Beside nothing else: client programs load it.

`idiolectd.store.view.refusals` is the daemon's end, and has the form.
"""

from contextlib import suppress
from pathlib import Path


def refusals_place(view: Path, *, is_folder: bool) -> Path:
    """The folder that belongs to a view."""
    return view / "refused" if is_folder else view.with_name(f"{view.name}.refused")


def tell_refusal(place: Path, did: str, access_token_hash: str) -> None:
    """Leaves a word for the daemon, if there is a folder for it and this user may add to it.

    Args:
        place: the folder.
        did: whose session.
        access_token_hash: of the token that was refused (`idiolectd.jose.token_hash`).
    """
    with suppress(OSError):
        (place / f"{did}~{access_token_hash}").touch()
