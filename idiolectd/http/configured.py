"""The HTTP client that a configuration describes."""

from typing import TYPE_CHECKING

import httpx

from idiolectd.clock import Clock
from idiolectd.config import Config
from idiolectd.http.guard import NetworkPolicy
from idiolectd.http.http_client import HttpClient
from idiolectd.http.origin_pools import OriginPools
from idiolectd.http.trust import Trust

if TYPE_CHECKING:
    from idiolectd.events import EventSink


def make_http(
    config: Config, clock: Clock, events: "EventSink", *, transport: httpx.AsyncBaseTransport | None = None
) -> HttpClient:
    """The only way out, as configured; also for the few commands that need no store.

    Args:
        config: says where requests may go.
        clock: wall-clock time.
        events: who is told.
        transport: how requests get there; None: over TLS to the internet. Closed with the client.

    Raises:
        ConfigError: ``network.ca_file`` can't be read.
    """
    network = NetworkPolicy(
        allow_loopback_http=config.network.allow_loopback_http,
        allow_addresses=config.network.allow_addresses,
        proxy=config.network.proxy,
    )
    if transport is None:
        transport = OriginPools(network, trust=Trust(config.network.ca_file))
    return HttpClient(policy=network, clock=clock, events=events, transport=transport)
