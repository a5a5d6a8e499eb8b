"""Asks where accounts live, each time for 15 s at most; a directory that does not answer is left alone for 60 s.

It keeps nothing of what was found: that belongs to a session's state.
"""

import math
from collections import OrderedDict
from typing import Any

import anyio

from idiolectd.did import directory
from idiolectd.outcome import Retry, Suspended
from idiolectd.ports import AccountLocation, SplitRefresher
from idiolectd.session import OAuthSession

# Seconds for one question: the DID document, and then what the PDS says of its issuer.
_DEADLINE = 15.0

# Seconds for which a directory that did not answer is not asked again, about any account.
_SILENCE = 60.0

# Every did:web is a directory of its own.
_MOST_DIRECTORIES = 1024


class AccountLocator:
    """Asks where accounts live, and remembers which directories did not answer."""

    def __init__(self) -> None:
        self._silent_until: OrderedDict[str, float] = OrderedDict()

    async def ask(
        self, refresher: SplitRefresher[Any], session: OAuthSession, *, with_handle: bool = False
    ) -> AccountLocation | Suspended | None:
        """Asks as `SplitRefresher.locate`, within 15 s; None: nobody can tell now."""
        asked = directory(session.did)
        if anyio.current_time() < self._silent_until.get(asked, -math.inf):
            return None
        with anyio.move_on_after(_DEADLINE):
            found = await refresher.locate(session, with_handle=with_handle)
            if not isinstance(found, Retry):
                return found
            if found.server == asked:
                self._silent_until[asked] = anyio.current_time() + _SILENCE
                self._silent_until.move_to_end(asked)
                if len(self._silent_until) > _MOST_DIRECTORIES:
                    self._silent_until.popitem(last=False)
        return None
