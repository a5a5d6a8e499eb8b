"""Puts the parts together from a configuration: for the daemon and for every other command."""

import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from idiolectd.clock import Clock, SystemClock
from idiolectd.config import ClientConfig, Config
from idiolectd.errors import ConfigError
from idiolectd.events import EventSink
from idiolectd.http import HttpClient, NetworkPolicy
from idiolectd.identity import Identity
from idiolectd.oauth import ClientRegistry, Discovery, OAuthClient, OAuthRefresher, SigningKey
from idiolectd.policy import Policy
from idiolectd.ports import SharedStore, SplitRefresher
from idiolectd.refresh import Patience, Planner, RefreshEngine
from idiolectd.session import Kind, OAuthSession
from idiolectd.store import open_configured_store
from idiolectd.xrpc import LegacyRefresher

# A person waits for a command. What it can't save by then is in the spill folder.
_COMMAND_PATIENCE = 60.0


@dataclass(frozen=True)
class Parts:
    """What commands work with.

    Attributes:
        store: the sessions.
        http: the only way out.
        identity: who lives where.
        refreshers: how to refresh, probe and revoke each kind of session.
        discovery: which server issues a PDS's tokens, and its endpoints.
        clients: the OAuth clients that this host may act as.
        engine: refreshes one session.
        clock: wall-clock time.
    """

    store: SharedStore
    http: HttpClient
    identity: Identity
    refreshers: Mapping[Kind, SplitRefresher[Any]]
    discovery: Discovery
    clients: ClientRegistry
    engine: RefreshEngine
    clock: Clock

    def refresher_for(self, session: OAuthSession) -> SplitRefresher[Any]:
        """The refresher of a session's kind."""
        return self.refreshers[session.kind]

    def apply(self, config: Config) -> None:
        """Takes over what a changed configuration says about refreshing and clients."""
        identity = _identity(config, self.http)
        discovery = Discovery(self.http, self.clock)
        refreshers = _refreshers(self.http, self.clock, _clients(config), discovery, identity)
        self.engine.reconfigure(refreshers, _planner(config))


@asynccontextmanager
async def open_parts(
    config: Config, events: EventSink, *, patience: Patience | None = None
) -> AsyncIterator[Parts]:
    """Opens the store and builds everything that works on it.

    Args:
        config: the configuration.
        events: who is told.
        patience: how long tokens that can't be saved are held; None: as long as a command may take.

    Raises:
        StoreError: the store can't be opened; the message says what to do.
    """
    clock = SystemClock()
    async with (
        open_configured_store(config.store) as store,
        make_http(config, clock, events) as http,
    ):
        identity = _identity(config, http)
        discovery, clients = Discovery(http, clock), _clients(config)
        refreshers = _refreshers(http, clock, clients, discovery, identity)
        engine = RefreshEngine(
            store,
            refreshers,
            planner=_planner(config),
            clock=clock,
            events=events,
            patience=patience or Patience(_COMMAND_PATIENCE),
        )
        yield Parts(store, http, identity, refreshers, discovery, clients, engine, clock)


def make_http(config: Config, clock: Clock, events: EventSink) -> HttpClient:
    """The only way out, as configured; for the few commands that need no store."""
    network = NetworkPolicy(
        allow_loopback_http=config.network.allow_loopback_http,
        allow_addresses=config.network.allow_addresses,
        proxy=config.network.proxy,
    )
    return HttpClient(policy=network, clock=clock, events=events)


def _planner(config: Config) -> Planner:
    policy = Policy(window=config.refresh.window, settle=config.refresh.settle)
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
        "bearer": LegacyRefresher(http, clock),
    }


def _clients(config: Config) -> ClientRegistry:
    """Raises `ConfigError`: a client's key can't be read."""
    return ClientRegistry(
        [read_client(client) for client in config.oauth.clients], default_client_id=config.oauth.client_id
    )


def read_client(client: ClientConfig) -> OAuthClient:
    """A client with its keys.

    Raises:
        ConfigError: one of them can't be read.
    """
    keys = {}
    for key in client.keys:
        try:
            keys[key.kid] = SigningKey.parse(key.read(os.environ))
        except ValueError as error:
            raise ConfigError(f"oauth.clients: key {key.kid} of {client.client_id}: {error}") from None
    return OAuthClient(client.client_id, keys)
