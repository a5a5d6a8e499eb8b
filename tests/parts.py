"""A program's parts on servers of a test, put together by the product itself (`idiolectd.parts`)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from idiolectd.clock import Clock
from idiolectd.config import Config, IdentityConfig, NetworkConfig, OAuthConfig, StoreConfig
from idiolectd.config.settings import RefreshConfig
from idiolectd.events import Event, EventSink
from idiolectd.http import make_http
from idiolectd.identity import TxtLookup
from idiolectd.oauth import ClientRegistry
from idiolectd.parts import Parts, Resources, build_parts
from idiolectd.ports import SharedStore
from idiolectd.store import InMemoryOAuthTokenStore

# The servers of most simulators: a PDS, and the authorization server that it names.
PDS, ISSUER = "https://pds.test", "https://entryway.test"

# Nothing listens there.
NOBODY = "http://127.0.0.1:9"

# A life that is beyond every test's horizon: whatever ends is an accident. Seconds.
NEVER = 400 * 86_400.0


def configured(
    directory: str = PDS, *, resolver: str | None = None, session_life: float = NEVER, **refresh: Any
) -> Config:
    """A configuration.

    Args:
        directory: keeps the did:plc identities; a simulator does, at its PDS's URL.
        resolver: finds handles; None: the specification's ways.
        session_life: of public clients, in seconds.
        refresh: values of ``[refresh]``.
    """
    return Config(
        store=StoreConfig(url="memory:"),
        refresh=RefreshConfig(**refresh),
        oauth=OAuthConfig(session_life=session_life),
        identity=IdentityConfig(plc_directory_url=directory, handle_resolver_url=resolver),
        network=NetworkConfig(allow_loopback_http=True),
    )


def _nobody(_event: Event) -> None:
    """Hears nothing."""


async def no_txt(name: str) -> list[str]:
    """A DNS without TXT records."""
    return []


@asynccontextmanager
async def parts_over(
    transport: httpx.AsyncBaseTransport | None,
    config: Config,
    *,
    clock: Clock,
    events: EventSink | None = None,
    store: SharedStore | None = None,
    clients: ClientRegistry | None = None,
    txt: TxtLookup = no_txt,
    luck: Callable[[], float] = lambda: 0.5,
) -> AsyncIterator[Parts]:
    """What the product builds of a configuration, on what a test holds in its hands.

    Args:
        transport: leads to the servers; None: real sockets. Closed at the end.
        config: the configuration; its store is not opened.
        clock: this machine's.
        events: hears them; None: nobody does.
        store: the sessions; None: a new one in memory.
        clients: the OAuth clients, beside the public one.
        txt: the DNS.
        luck: for the jitter of retries.
    """
    told = events or _nobody
    async with make_http(config, clock, told, transport=transport) as http:
        kept = store if store is not None else InMemoryOAuthTokenStore(clock=clock)
        resources = Resources(kept, http, clock, told, txt=txt, luck=luck)
        yield build_parts(config, clients or ClientRegistry(), resources)
