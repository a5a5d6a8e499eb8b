"""An authorization server, PDS and PLC directory for tests, as strict as the real ones.

It judges what a client sends with code of its own and never imports the package under test.

In process (trio or asyncio, any clock)::

    sim = Simulator("https://pds.test", now=clock.now, access_life=600)
    account = sim.add_account("alice.test", "app-password")
    record = sim.seed_oauth(account)              # a session record: store it, refresh it
    client = httpx.AsyncClient(transport=SimulatorTransport(sim))
    sim.faults.add(Fault("drop_after", "/oauth/token"))
    ...
    sim.counters.replays_seen, sim.session_of(record["refreshJwt"]).alive

Several servers, or an entryway: ``SimulatorTransport({"https://a.test": a, "https://b.test": b})``;
``Simulator("https://pds.test", issuer="https://entryway.test")``.

On a socket: ``url = await task_group.start(serve, sim)``, or ``python -m tests.simulator --accounts 3``,
steered through ``/_sim/stats``, ``/_sim/sessions``, ``/_sim/faults``, ``/_sim/accounts``, ``/_sim/clients``, ``/_sim/consent``,
``/_sim/options``,
``/_sim/takedown`` and so on (see ``admin``). Records are to be seeded after ``serve`` has started: they name
the server's address.

Logins: PAR, authorize and the code grant are strict; at the authorize page nobody is asked: ``sim.set_consent``.

Does not: show a sign-in page or check passwords there, fetch client metadata (``add_client`` publishes it), store
repositories, speak TLS.
"""

from tests.simulator.client import DpopClient
from tests.simulator.core import SessionInfo, Simulator
from tests.simulator.faults import Fault, Faults, html, server_error
from tests.simulator.seeding import new_client_key, timestamp
from tests.simulator.server import serve
from tests.simulator.state import LOOPBACK_CLIENT_ID, Account, Counters, Options, token_hash
from tests.simulator.transport import SimulatorTransport
from tests.simulator.wire import Request, Response
from tests.simulator.words import WORDS, Words

__all__ = [
    "LOOPBACK_CLIENT_ID",
    "WORDS",
    "Account",
    "Counters",
    "DpopClient",
    "Fault",
    "Faults",
    "Options",
    "Request",
    "Response",
    "SessionInfo",
    "Simulator",
    "SimulatorTransport",
    "Words",
    "html",
    "new_client_key",
    "serve",
    "server_error",
    "timestamp",
    "token_hash",
]
