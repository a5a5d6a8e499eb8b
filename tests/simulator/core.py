"""The simulator: one synchronous function from a request to an answer.

Does: route, put ``Date`` and ``DPoP-Nonce`` on answers, count, and give tests their handles.
Does not: I/O, sleeping, or faults on the wire (adapters ask `Simulator.faults` and do them).
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from tests.simulator import authorization, discovery, grants, legacy, oauth, resource
from tests.simulator.admin import admin
from tests.simulator.faults import Faults
from tests.simulator.state import (
    Counters,
    LegacySession,
    OAuthSession,
    Options,
    State,
    token_hash,
)
from tests.simulator.steering import Steering
from tests.simulator.wire import Refused, Request, Response, json_response, oauth_error, xrpc_error

DEFAULT_URL = "http://127.0.0.1:2583"
Handler = Callable[[State, Request], Response]

OAUTH: dict[str, Handler] = {
    oauth.TOKEN_PATH: grants.token,
    oauth.REVOKE_PATH: oauth.revoke,
    authorization.PAR_PATH: authorization.push,
    authorization.AUTHORIZE_PATH: authorization.authorize,
}
XRPC: dict[str, tuple[str, Handler]] = {
    "com.atproto.server.createSession": ("POST", legacy.create_session),
    "com.atproto.server.refreshSession": ("POST", legacy.refresh_session),
    "com.atproto.server.deleteSession": ("POST", legacy.delete_session),
    "com.atproto.server.getSession": ("GET", resource.get_session),
    "com.atproto.server.describeServer": ("GET", lambda state, _: resource.describe_server(state)),
    "com.atproto.repo.createRecord": ("POST", resource.create_record),
    "com.atproto.identity.resolveHandle": ("GET", resource.resolve_handle),
    "_health": ("GET", lambda _, __: json_response(200, {"version": "simulator"})),
}


@dataclass(frozen=True)
class SessionInfo:
    """What the server holds about one session; ``refresh_hash`` is SHA-256 of its newest refresh token."""

    did: str
    kind: str
    alive: bool
    cause: str | None
    generation: int
    refresh_hash: str
    client_id: str | None
    consumable: bool  # alive, and its account too


class Simulator(Steering):
    """Authorization server, PDS and PLC directory of a set of accounts.

    ``options`` are the fields of `Options`. ``pds_url`` may be left out for a simulator that is served on a
    socket: it then takes the listener's address. ``seed`` makes DIDs, tokens and keys repeatable.
    """

    def __init__(
        self,
        pds_url: str | None = None,
        *,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        self.url_is_open = pds_url is None
        self.issuer_is_open = issuer is None
        url = (pds_url or DEFAULT_URL).rstrip("/")
        self.state = State(self.options, url, (issuer or url).rstrip("/"), now, seed)
        self.faults = Faults(self.did_of)
        self._pending: list[tuple[float, int, Request]] = []
        self._order = itertools.count()

    def __repr__(self) -> str:
        return f"<Simulator {self.pds_url} accounts={len(self.state.accounts)} faults={len(self.faults)}>"

    @property
    def pds_url(self) -> str:
        """The PDS's (and the directory's) origin."""
        return self.state.pds_url

    @property
    def issuer(self) -> str:
        """The authorization server's origin."""
        return self.state.issuer

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        self.run_pending()
        return self.state.counters

    def rebase(self, *, pds_url: str | None = None, issuer: str | None = None) -> None:
        """Move to other origins. Records and tokens made before still name the old ones."""
        self.state.pds_url = pds_url or self.state.pds_url
        self.state.issuer = issuer or self.state.issuer

    def handle(self, request: Request) -> Response:
        """The answer to a request. Never raises for anything a client can send."""
        self.run_pending()
        if request.path.startswith("/_sim/"):
            return self._dated(admin(self, request))
        return self._serve(request)

    def _serve(self, request: Request) -> Response:
        self.state.counters.requests += 1
        path = request.path
        try:
            response = self._route(request, path)
        except Refused as refused:
            response = refused.response
        if response.status >= 400:
            self._count_error(response)
        if path.startswith(("/oauth/", "/xrpc/")):
            nonces = self.state.nonces(authorization_server=path.startswith("/oauth/"))
            nonce = nonces.current(self.state.now, self.options.nonce_rotation)
            response = response.plus(("DPoP-Nonce", nonce))
        return self._dated(response)

    def _dated(self, response: Response) -> Response:
        return response.plus(("Date", formatdate(self.state.now, usegmt=True)))

    def _route(self, request: Request, path: str) -> Response:
        state = self.state
        if path in OAUTH:
            return OAUTH[path](state, request)
        if path.startswith("/oauth/"):
            raise oauth_error(404, "invalid_request", "Not Found")
        if path.startswith("/xrpc/"):
            name = path.removeprefix("/xrpc/")
            if name not in XRPC:
                raise xrpc_error(501, "MethodNotImplemented", "Method Not Implemented")
            method, handler = XRPC[name]
            if request.method != method:
                raise xrpc_error(
                    405, "InvalidRequest", f"Incorrect HTTP method ({request.method}) expected {method}"
                )
            return handler(state, request)
        if request.method == "GET":
            if path == "/.well-known/oauth-protected-resource":
                return discovery.protected_resource(state)
            if path == "/.well-known/oauth-authorization-server":
                return discovery.authorization_server(state)
            if path.startswith("/did:"):
                return discovery.did_document(state, path[1:])
        return json_response(404, {"error": "NotFound", "message": "Not Found"})

    def _count_error(self, response: Response) -> None:
        body: dict[str, Any] = response.json() if response.body else {}
        text = body.get("error_description") or body.get("message")
        self.state.counters.errors[f"{response.status} {body.get('error')}: {text}"] += 1

    # Requests whose client has gone: a real server works them off all the same, at its own time.

    def schedule(self, after: float, request: Request) -> None:
        """Let the core run a request ``after`` seconds from now; nobody gets the answer."""
        heapq.heappush(self._pending, (self.state.now + after, next(self._order), request))

    def run_pending(self) -> None:
        """Run the requests whose time has come (done before every request and every look at the counters)."""
        while self._pending and self._pending[0][0] <= self.state.now:
            self._serve(heapq.heappop(self._pending)[2])

    def did_of(self, request: Request) -> str | None:
        """Whose token a request carries, if anybody's."""
        _, _, value = (request.get("authorization") or "").partition(" ")
        if not value and request.path in OAUTH:
            try:
                form = oauth.parse_form(request)
            except Refused:
                return None
            value = form.get("refresh_token") or form.get("token") or ""
        return resource.did_of_token(self.state, value)

    def sessions(self, did: str | None = None) -> list[SessionInfo]:
        """Every session ever, or those of one account, oldest first within each kind."""
        self.run_pending()
        both: list[OAuthSession | LegacySession] = [*self.state.oauth_sessions, *self.state.legacy_sessions]
        return [self._info(session) for session in both if did is None or session.did == did]

    def session_of(self, refresh_token: str) -> SessionInfo | None:
        """The session that a refresh token belongs or belonged to."""
        self.run_pending()
        token = self.state.legacy_tokens.get(refresh_token)
        session = self.state.refresh_tokens.get(refresh_token) or (token.session if token else None)
        return self._info(session) if session is not None else None

    def _info(self, session: OAuthSession | LegacySession) -> SessionInfo:
        oauth_session = isinstance(session, OAuthSession)
        gone = self.state.accounts[session.did].status in ("takendown", "deleted")
        return SessionInfo(
            did=session.did,
            kind="oauth" if oauth_session else "legacy",
            alive=session.alive,
            cause=session.cause,
            generation=session.generation,
            refresh_hash=token_hash(session.refresh_token),
            client_id=session.client_id if isinstance(session, OAuthSession) else None,
            consumable=session.alive and not gone,
        )

    def stats(self) -> dict[str, Any]:
        """Counters and totals, ready for JSON."""
        infos = self.sessions()
        counters = {name: dict(v) if isinstance(v, dict) else v for name, v in vars(self.counters).items()}
        alive = sum(info.alive for info in infos)
        return {**counters, "accounts": len(self.state.accounts), "sessions": len(infos), "alive": alive}
