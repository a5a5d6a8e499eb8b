"""Puts the parts together from a configuration: for the daemon and for every other command."""

import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from idiolectd.clock import Clock, SystemClock
from idiolectd.config import ClientConfig, ClientKeyConfig, Config
from idiolectd.errors import ConfigError
from idiolectd.events import EventSink
from idiolectd.hosting import Hosting
from idiolectd.http import HttpClient, NetworkPolicy, OriginPools, Trust
from idiolectd.identity import Identity
from idiolectd.oauth import ClientRegistry, Discovery, OAuthClient, OAuthRefresher, SigningKey, UnusableKey
from idiolectd.policy import Policy
from idiolectd.ports import SharedStore, SplitRefresher
from idiolectd.refresh import Planner, RefreshEngine, SaveDeadline
from idiolectd.session import Kind, OAuthSession
from idiolectd.store import open_configured_store
from idiolectd.xrpc import LegacyRefresher

# A person waits for a command. What it can't save by then is in the spill folder.
_COMMAND_PATIENCE = 60.0


@dataclass
class Parts:
    """What commands work with.

    Attributes:
        store: the sessions.
        http: the only way out.
        identity: who lives where.
        hosting: whether a new session is one of its account's own servers.
        refreshers: how to refresh, probe and revoke each kind of session.
        discovery: which server issues a PDS's tokens, and its endpoints.
        clients: the OAuth clients that this host may act as.
        engine: refreshes one session.
        clock: wall-clock time.
    """

    store: SharedStore
    http: HttpClient
    identity: Identity
    hosting: Hosting
    refreshers: Mapping[Kind, SplitRefresher[Any]]
    discovery: Discovery
    clients: ClientRegistry
    engine: RefreshEngine
    clock: Clock

    def refresher_for(self, session: OAuthSession) -> SplitRefresher[Any]:
        """The refresher of a session's kind."""
        return self.refreshers[session.kind]

    def apply(self, config: Config, clients: ClientRegistry) -> None:
        """Takes over what a changed configuration says about refreshing and clients: all of it, or nothing.

        Args:
            config: the new configuration.
            clients: what `read_clients` read of it; that takes its time, and needs a thread.

        Raises:
            ConfigError: it would take a key away that works; see `ClientRegistry.check_successor`.
        """
        planner = _planner(config)
        self.clients.check_successor(clients)
        identity = _identity(config, self.http)
        discovery = Discovery(self.http, self.clock)
        # Nothing below can fail.
        self.clients, self.identity, self.discovery = clients, identity, discovery
        self.refreshers = _refreshers(self.http, self.clock, clients, discovery, identity)
        self.engine.reconfigure(self.refreshers, planner)


@asynccontextmanager
async def open_parts(
    config: Config, events: EventSink, *, patience: SaveDeadline | None = None, looking: bool = False
) -> AsyncIterator[Parts]:
    """Opens the store and builds everything that works on it.

    Args:
        config: the configuration.
        events: who is told.
        patience: how long tokens that can't be saved are held; None: as long as a command may take.
        looking: for a command that changes nothing in the store.

    Raises:
        StoreError: the store can't be opened; the message says what to do.
    """
    clock = SystemClock()
    async with (
        open_configured_store(config.store, looking=looking) as store,
        make_http(config, clock, events) as http,
    ):
        identity = _identity(config, http)
        discovery, clients = Discovery(http, clock), read_clients(config)
        refreshers = _refreshers(http, clock, clients, discovery, identity)
        engine = RefreshEngine(
            store,
            refreshers,
            planner=_planner(config),
            clock=clock,
            events=events,
            patience=patience or SaveDeadline(_COMMAND_PATIENCE),
        )
        hosting = Hosting(identity, discovery)
        yield Parts(store, http, identity, hosting, refreshers, discovery, clients, engine, clock)


def make_http(config: Config, clock: Clock, events: EventSink) -> HttpClient:
    """The only way out, as configured; for the few commands that need no store.

    Raises:
        ConfigError: ``network.ca_file`` can't be read.
    """
    network = NetworkPolicy(
        allow_loopback_http=config.network.allow_loopback_http,
        allow_addresses=config.network.allow_addresses,
        proxy=config.network.proxy,
    )
    transport = OriginPools(network, trust=Trust(config.network.ca_file))
    return HttpClient(policy=network, clock=clock, events=events, transport=transport)


def _planner(config: Config) -> Planner:
    refresh = config.refresh
    policy = Policy(window=refresh.window, settle=refresh.settle, confirm=refresh.confirm)
    return Planner(policy, session_life=config.oauth.session_life_of, luck=random.random)


def _identity(config: Config, http: HttpClient) -> Identity:
    return Identity(
        http,
        plc_directory_url=config.identity.plc_directory_url,
        handle_resolver_url=config.identity.handle_resolver_url,
    )


def _refreshers(
    http: HttpClient, clock: Clock, clients: ClientRegistry, discovery: Discovery, identity: Identity
) -> dict[Kind, SplitRefresher[Any]]:
    return {
        "dpop": OAuthRefresher(http, clock, clients, discovery, identity),
        "bearer": LegacyRefresher(http, clock, Hosting(identity, discovery)),
    }


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
