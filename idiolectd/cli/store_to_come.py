"""The store of a login. One that does not exist yet is made by the first session: a failed login leaves no trace."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idiolectd.cli.existing_store import is_missing
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.places import named_store
from idiolectd.config import Config, user_name
from idiolectd.events import EventSink
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.session import OAuthSession
from idiolectd.store import InMemoryOAuthTokenStore, open_configured_store
from idiolectd.store.locks.mounts import refuse_network_file_system
from idiolectd.store_url import parse_store_url

if TYPE_CHECKING:
    from idiolectd.parts import Parts


@asynccontextmanager
async def open_parts_to_log_in(config: Config, events: EventSink) -> AsyncIterator["Parts"]:
    """Opens the parts for a command that logs in; makes no store before there is a session to store.

    Raises:
        As `idiolectd.parts.open_parts`, and
        StoreError: this user can't write to the store now.
        CommandFailed: there is no store, and none can be made.
    """
    from idiolectd.parts import open_parts

    to_come = None
    if is_missing(config.store.url):
        _require_room(config)
        to_come = _StoreToCome(config)
    async with open_parts(config, events, store=to_come) as parts:
        # Before a server starts a session that could not be stored.
        await parts.store.ensure_writable()
        yield parts


class _StoreToCome(InMemoryOAuthTokenStore):
    """An empty store in memory that saves to the configured one, which the first session makes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config

    async def save(self, session: OAuthSession) -> None:
        """See `OAuthTokenStore.save`; also raises what opening the configured store raises."""
        async with (
            open_configured_store(self._config.store) as store,
            store.claim(session.did, patience=CLAIM_PATIENCE),
        ):
            await store.save(session)
        await super().save(session)


def _require_room(config: Config) -> None:
    """Refuses a place where no store can be made, before a server starts a session that could not be stored."""
    path = parse_store_url(config.store.url).path
    folder = next(above for above in path.parents if above.exists())
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise CommandFailed(
            ExitCode.FAILED,
            f"can't make the store {named_store(config)}: {user_name()} may not write in {folder}",
        )
    refuse_network_file_system(Path(os.path.realpath(folder)))
