"""One refresh of one stored session in a process of its own, and what the next process makes of it.

The parts are put together as the daemon puts them together, from a configuration; only the daemon's
own loop is not here, so that a run is nothing but claim, note, request, commit and closing the store.
"""

import json
import math
import os
import time
from dataclasses import dataclass

import anyio

from idiolectd.config import Config, load_config
from idiolectd.errors import LockBusy, StoreError
from idiolectd.events import Event
from idiolectd.outcome import Ambiguous, RefreshOutcome, ReloginRequired, Retry
from idiolectd.parts import Parts, open_parts
from idiolectd.ports import StoredSession
from idiolectd.session import OAuthSession
from idiolectd.store import open_store
from tests.torture import tracer
from tests.torture.common import Record
from tests.torture.stores import StorePlace

# How long a request may be in flight, here: the simulator answers within a fraction of that.
SETTLE = 1.0

# A recovery is two attempts, with the settling time between them; retries after 1 s are for trouble.
_ATTEMPTS = 10


@dataclass(frozen=True)
class Recovered:
    """What a later process made of a session.

    Attributes:
        outcome: of the last refresh that was due by itself.
        forced: of one more, which is asked for; None: the session is dead.
        entry: what is stored at the end.
    """

    outcome: RefreshOutcome
    forced: RefreshOutcome | None
    entry: StoredSession


def configuration(place: StorePlace) -> Config:
    """The daemon's configuration for one store and servers on loopback."""
    environ = {
        "IDIOLECTD_CONFIG": os.devnull,
        "IDIOLECTD_STORE__URL": place.url,
        "IDIOLECTD_STORE__SPILL_DIR": str(place.spill),
        "IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP": "true",
        "IDIOLECTD_REFRESH__SETTLE": f"{SETTLE}s",
        "IDIOLECTD_REFRESH__CONFIRM": "0",  # thousands of verdicts: `tests.servers` has the patient ones
    }
    return load_config(None, environ)


def refresh(
    place: StorePlace, did: str, *, patience: float | None = None, until_returned: bool = False
) -> str:
    """Refreshes a session now, due or not. Traced from the claim until the process ends.

    Args:
        place: the store.
        did: whose session.
        patience: how many seconds tokens that can't be saved are held, as in a daemon that stops;
            None: without end.

    Returns:
        the name of the outcome, or of the error that stood in the way.
    """
    return anyio.run(_refresh, place, did, patience, until_returned, backend="trio")


def save(place: StorePlace, record: Record) -> None:
    """Saves a session as a client program of ours does. Traced from opening the store until `save` returns."""
    anyio.run(_save, place, record, backend="trio")


def delete(place: StorePlace, did: str) -> None:
    """Deletes a session. Traced as `save`."""
    anyio.run(_delete, place, did, backend="trio")


def recover(place: StorePlace, did: str) -> Recovered:
    """Does what a daemon does with a session that it finds, until it is settled; then refreshes once more."""
    return anyio.run(_recover, place, did, backend="trio")


async def _refresh(place: StorePlace, did: str, patience: float | None, until_returned: bool) -> str:
    if until_returned:
        tracer.begin()
    async with open_parts(configuration(place), _silent) as parts:
        parts.resources.save_deadline.end_in(math.inf if patience is None else patience)
        tracer.begin()
        try:
            attempt = await parts.engine.refresh(did, force=True)
        except StoreError as error:
            return type(error).__name__
        if until_returned:
            tracer.end()
        return type(attempt.outcome).__name__


async def _save(place: StorePlace, record: Record) -> None:
    tracer.begin()
    async with open_store(place.url) as store:
        await store.save(OAuthSession.from_json(json.dumps(record)))
        tracer.end()


async def _delete(place: StorePlace, did: str) -> None:
    tracer.begin()
    async with open_store(place.url) as store:
        await store.delete(did)
        tracer.end()


async def _recover(place: StorePlace, did: str) -> Recovered:
    async with open_parts(configuration(place), _silent) as parts:
        outcome = await _settle(parts, did)
        forced = None
        if not isinstance(outcome, ReloginRequired):
            forced = (await parts.engine.refresh(did, force=True)).outcome
        return Recovered(outcome, forced, await parts.store.read(did))


async def _settle(parts: Parts, did: str) -> RefreshOutcome:
    for _ in range(_ATTEMPTS):
        try:
            attempt = await parts.engine.refresh(did)
        except LockBusy:  # the killed process is still being buried
            await anyio.sleep(0.05)
            continue
        if not isinstance(attempt.outcome, Ambiguous | Retry):
            return attempt.outcome
        pause = attempt.due.at - time.time() if attempt.due is not None else 0.1
        await anyio.sleep(min(2.0, max(0.01, pause)))
    raise RuntimeError(f"the session of {did} does not settle")


def _silent(_event: Event) -> None:
    """The store and the server tell what happened."""
