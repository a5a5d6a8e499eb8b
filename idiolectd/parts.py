"""Puts the parts together from a configuration: for the daemon and for every other command.

Nothing else builds them, tests neither. What is outside of the process, time and chance included, is given
(`Resources`); what a configuration says is built on it (`build_parts`). So a reload builds new parts on the
same resources (`Parts.successor`) and then uses them in the place of the old ones.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from idiolectd.clock import Clock, SystemClock
from idiolectd.config import ClientConfig, ClientKeyConfig, Config
from idiolectd.errors import ConfigError, StoreError
from idiolectd.events import EventSink, StorePutBack
from idiolectd.finish import finish, in_thread
from idiolectd.hosting import Hosting
from idiolectd.http import HttpClient, make_http
from idiolectd.identity import DnsTxt, Identity, TxtLookup
from idiolectd.oauth import ClientRegistry, Discovery, OAuthClient, OAuthRefresher, SigningKey, UnusableKey
from idiolectd.policy import Policy
from idiolectd.ports import SharedStore, SplitRefresher
from idiolectd.refresh import Planner, RefreshEngine, SaveDeadline
from idiolectd.remedy import Commands
from idiolectd.session import Kind, OAuthSession
from idiolectd.store import open_configured_store, translated
from idiolectd.xrpc import LegacyRefresher

# Seconds that a command waits for a store that does not take new tokens, because a person waits for it.
# Tokens that it can't save by then are in the spill folder.
_COMMAND_PATIENCE = 60.0


@dataclass(frozen=True)
class Resources:
    """What parts are built on: everything outside of this process, time and chance among it.

    They outlive a change of the configuration, with what they remember: the store and the claims on it,
    connections, servers' clocks and nonces, and the tokens that are held because they can't be saved.

    Attributes:
        store: the sessions.
        http: the only way out.
        clock: wall-clock time.
        events: who is told.
        save_deadline: how long tokens that can't be saved are held.
        txt: looks up TXT records.
        luck: a source of numbers in [0, 1), for the jitter of retries.
        put_back_at: when it was noticed that an older copy of the store had been put back; None: never.
    """

    store: SharedStore
    http: HttpClient
    clock: Clock
    events: EventSink
    save_deadline: SaveDeadline = field(default_factory=lambda: SaveDeadline(_COMMAND_PATIENCE))
    txt: TxtLookup = field(default_factory=DnsTxt)
    luck: Callable[[], float] = random.random
    put_back_at: float | None = None


@dataclass(frozen=True)
class Parts:
    """What commands and the daemon work with, as one configuration wants it.

    Attributes:
        resources: what the parts are built on.
        identity: who lives where.
        hosting: whether a new session is one of its account's own servers.
        refreshers: how to refresh, probe and revoke each kind of session.
        discovery: which server issues a PDS's tokens, and its endpoints.
        clients: the OAuth clients that this host may act as.
        engine: refreshes one session.
        commands: how the commands are typed that people are told of.
    """

    resources: Resources
    identity: Identity
    hosting: Hosting
    refreshers: Mapping[Kind, SplitRefresher[Any]]
    discovery: Discovery
    clients: ClientRegistry
    engine: RefreshEngine
    commands: Commands

    @property
    def store(self) -> SharedStore:
        """The sessions."""
        return self.resources.store

    @property
    def http(self) -> HttpClient:
        """The only way out."""
        return self.resources.http

    @property
    def clock(self) -> Clock:
        """Wall-clock time."""
        return self.resources.clock

    def refresher_for(self, session: OAuthSession) -> SplitRefresher[Any]:
        """The refresher of a session's kind."""
        return self.refreshers[session.kind]

    def successor(self, config: Config, clients: ClientRegistry) -> "Parts":
        """New parts on the same resources, for a configuration that is to hold from now on.

        These parts stay as they are: whatever is under way with them ends with them.

        Args:
            config: the new configuration.
            clients: what `read_clients` read of it; that takes its time, and needs a thread.

        Raises:
            ConfigError: it would take a key away that works; see `ClientRegistry.check_successor`.
        """
        self.clients.check_successor(clients)
        return build_parts(config, clients, self.resources)


def build_parts(config: Config, clients: ClientRegistry, resources: Resources) -> Parts:
    """Puts the parts together. Opens, reads and sends nothing."""
    http, clock = resources.http, resources.clock
    identity = Identity(
        http,
        plc_directory_url=config.identity.plc_directory_url,
        handle_resolver_url=config.identity.handle_resolver_url,
        txt=resources.txt,
    )
    discovery = Discovery(http, clock)
    hosting = Hosting(identity, discovery)
    refreshers: dict[Kind, SplitRefresher[Any]] = {
        "dpop": OAuthRefresher(http, clock, clients, discovery, identity),
        "bearer": LegacyRefresher(http, clock, hosting),
    }
    refresh = config.refresh
    policy = Policy(window=refresh.window, settle=refresh.settle, confirm=refresh.confirm)
    engine = RefreshEngine(
        resources.store,
        refreshers,
        planner=Planner(policy, session_life=config.oauth.session_life_of, luck=resources.luck),
        clock=clock,
        events=resources.events,
        save_deadline=resources.save_deadline,
        commands=config.commands,
        put_back_at=resources.put_back_at,
    )
    return Parts(resources, identity, hosting, refreshers, discovery, clients, engine, config.commands)


@asynccontextmanager
async def open_parts(
    config: Config,
    events: EventSink,
    *,
    patience: SaveDeadline | None = None,
    looking: bool = False,
    store: SharedStore | None = None,
) -> AsyncIterator[Parts]:
    """Opens the store and the way out, and builds what works on them, by the machine's own clock.

    Args:
        config: the configuration.
        events: who is told.
        patience: how long tokens that can't be saved are held; None: as long as a command may take.
        looking: for a command that changes nothing in the store.
        store: an open store; None: opens the configured one.

    Raises:
        StoreError: the store can't be opened; the message says what to do.
        ConfigError: ``network.ca_file`` can't be read.
    """
    clock = SystemClock()
    async with (
        nullcontext(store) if store else open_configured_store(config.store, looking=looking) as opened,
        make_http(config, clock, events) as http,
    ):
        save_deadline = patience or SaveDeadline(_COMMAND_PATIENCE)
        put_back_at = None if looking else await look_whether_put_back(opened, clock, events)
        resources = Resources(opened, http, clock, events, save_deadline, put_back_at=put_back_at)
        try:
            yield build_parts(config, read_clients(config), resources)
        finally:
            if not looking:
                with suppress(StoreError):
                    await finish(tell_witnesses, opened)


async def look_whether_put_back(store: SharedStore, clock: Clock, events: EventSink) -> float | None:
    """Returns when it was noticed, perhaps just now, that an older copy of the store was put back; None: never.

    Raises:
        StoreError: the store can't answer, or that can't be written down.
    """
    witnesses = await in_thread(store.witnesses)
    if witnesses is None:
        return None
    with translated(f"can't note that {store.url} was put back"):
        newest = await in_thread(witnesses.newest)
        number = await store.change_number(renew=False)
        if newest > number:
            await in_thread(witnesses.remember, number, clock.now())
            events(StorePutBack(store=store.url))
        return await in_thread(witnesses.put_back_at)


async def tell_witnesses(store: SharedStore) -> None:
    """Writes down outside of the store how new it is.

    Raises:
        StoreError: the store can't answer.
    """
    witnesses = await in_thread(store.witnesses)
    if witnesses is not None:
        await in_thread(witnesses.tell, await store.change_number(renew=True))


def read_clients(config: Config) -> ClientRegistry:
    """The configured clients, with those of their keys that can be used now."""
    clients = [
        OAuthClient(client.client_id, {key.kid: _read_key(client, key) for key in client.keys})
        for client in config.oauth.clients
    ]
    return ClientRegistry(clients, default_client_id=config.oauth.client_id)


def require_readable_keys(config: Config) -> None:
    """Refuses a configuration that names keys which are not there: for whoever is to use all of them.

    What is no key although it can be read concerns the sessions that were started with it, and those only.

    Raises:
        ConfigError: the message names the key.
    """
    for client in config.oauth.clients:
        for key in client.keys:
            key.read(os.environ)


def read_client(client: ClientConfig) -> OAuthClient:
    """A client with all of its keys.

    Raises:
        ConfigError: one of them can't be used.
    """
    keys = {key.kid: _read_key(client, key) for key in client.keys}
    for key in keys.values():
        if isinstance(key, UnusableKey):
            raise ConfigError(key.why)
    return OAuthClient(client.client_id, keys)


def _read_key(client: ClientConfig, key: ClientKeyConfig) -> SigningKey | UnusableKey:
    try:
        return SigningKey.parse(key.read(os.environ))
    except ConfigError as error:
        why = str(error)
    except ValueError as error:
        why = f"oauth.clients: key {key.kid} of {client.client_id}: {error}"
    return UnusableKey(why, partial(_read_key, client, key))
