"""Whose session a handle means. Pure: whoever reads the store brings the sessions.

A server may call its account anything, and the record then says so. So a handle counts once it was
confirmed in both directions (handle → DID → handle), which the record keeps as `confirmedHandle`;
before that it only tells whose it might be.
"""

from collections.abc import Sequence

from idiolectd.errors import HandleError, NoSessionError
from idiolectd.session import OAuthSession, normal_handle


class Claimants:
    """The sessions that carry a handle.

    Args:
        handle: as it was typed.

    Attributes:
        confirmed: the DIDs that it is confirmed for; more than one if it moved since.
        unconfirmed: the DIDs whose records only say so.
    """

    def __init__(self, handle: str) -> None:
        self.confirmed: list[str] = []
        self.unconfirmed: list[str] = []
        self._handle = handle
        self._wanted = normal_handle(handle)

    @property
    def dids(self) -> Sequence[str]:
        """All of them, the confirmed ones first."""
        return [*self.confirmed, *self.unconfirmed]

    def take(self, session: OAuthSession | None) -> None:
        """Looks at one stored session."""
        if session is None:
            return
        if session.confirmed_handle and normal_handle(session.confirmed_handle) == self._wanted:
            self.confirmed.append(session.did)
        elif session.handle and normal_handle(session.handle) == self._wanted:
            self.unconfirmed.append(session.did)

    def the_one(self) -> str:
        """The DID that the handle means.

        Raises:
            NoSessionError: nobody carries it.
            HandleError: it is confirmed for none of them, or for several.
        """
        match self.confirmed, self.unconfirmed:
            case [did], _:
                return did
            case [], []:
                raise NoSessionError(self._handle)
            case [], claiming:
                raise HandleError(
                    f"{self._handle} is not confirmed: that is only what the session of"
                    f" {', '.join(claiming)} is called. idiolectd run confirms it soon, and"
                    f" idiolectd refresh {self._handle} now; or name the DID",
                    self.dids,
                )
            case confirmed, _:
                raise HandleError(
                    f"{self._handle} is the handle of several sessions; name one: {', '.join(confirmed)}",
                    self.dids,
                )
