"""The spill, as a refresh uses it: the second place for tokens that a store would not take.

A place that can't be read is reported once, however often it is met, and stops only the session whose
tokens may be there.
"""

from contextlib import suppress

from idiolectd import events
from idiolectd.errors import SpillUnreadable, StoreError
from idiolectd.events import EventSink
from idiolectd.ports import Spill, Spilled
from idiolectd.session import OAuthSession


class SpilledTokens:
    """Finds, keeps and removes spilled tokens, and reports when it can't look.

    Args:
        spill: the second place; None: there is none.
        emit: who is told.
    """

    def __init__(self, spill: Spill | None, emit: EventSink) -> None:
        self._spill = spill
        self._emit = emit
        self._reported: set[str] = set()

    async def find(self, stored: OAuthSession, *, needed: bool) -> Spilled | None:
        """Finds the tokens that came for the stored session, if they wait there.

        Args:
            stored: the session as it is stored.
            needed: its refresh token was sent, so that sending it again without having looked may end the session.

        Raises:
            SpillUnreadable: nobody can look, and it is needed.
        """
        if self._spill is None:
            return None
        try:
            found = await self._spill.find(stored.did, stored.refresh_token_hash)
        except SpillUnreadable as error:
            self._report([str(error)])
            if needed:
                raise
            return None
        self._reported.clear()
        return found

    async def dids(self) -> list[str]:
        """Whose tokens wait there, as far as it can be told."""
        if self._spill is None:
            return []
        found = await self._spill.survey()
        self._reported.intersection_update(found.broken)
        self._report(found.broken)
        return found.dids

    async def put(self, spilled: Spilled) -> str | None:
        """Keeps tokens there; returns the place, for people. None: it takes them neither, or there is none."""
        if self._spill is None:
            return None
        try:
            return await self._spill.put(spilled)
        except StoreError:
            return None

    async def forget(self, did: str, previous_token_hash: str | None = None) -> None:
        """Removes what is worthless now; a failure costs no more than another look at it."""
        if self._spill is not None:
            with suppress(StoreError):
                await self._spill.remove(did, previous_token_hash)

    def _report(self, broken: list[str]) -> None:
        for error in broken:
            if error not in self._reported:
                self._reported.add(error)
                self._emit(events.SpillFolderUnreadable(error=error))
