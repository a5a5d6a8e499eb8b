"""What servers say when they refuse a refresh: a table of cases, each with where it was heard or read.

Does: hold the words, and make a fault of them, so that the simulator speaks as another server does.
Does not: say what a client should make of them in code; `meaning` is for the tests that do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.simulator.faults import Fault
from tests.simulator.wire import Request

# "dead": said of a session that is over; perhaps also of one that lives, while something passes.
# "client": refuses the client or the account, which may be let in again.
# "passing": says nothing of the session, however often it is heard.
Meaning = Literal["dead", "client", "passing"]
Kind = Literal["dpop", "bearer"]

BOTH: tuple[Kind, ...] = ("dpop", "bearer")
OAUTH: tuple[Kind, ...] = ("dpop",)
LEGACY: tuple[Kind, ...] = ("bearer",)

_JSON = "application/json"


@dataclass(frozen=True)
class Words:
    """One answer to a refresh.

    Attributes:
        server: who says it.
        source: "run": heard from that server; "read": in its source; else the standard.
        kinds: of sessions to which it is said.
        meaning: see `Meaning`.
        status: HTTP's.
        body: text, or an object that becomes JSON.
        content_type: of the body.
        cause: our name for it, once it has ended a session.
    """

    server: str
    source: str
    kinds: tuple[Kind, ...]
    meaning: Meaning
    status: int
    body: str | dict[str, Any]
    content_type: str = _JSON
    cause: str = "refused"

    @property
    def name(self) -> str:
        """For the ids of tests."""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return f"{self.server}: {self.status} {text}"[:90]

    def fault(self, match: str | Callable[[Request], bool] | None, times: int | None = None) -> Fault:
        """The simulator, saying it."""
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        headers = [("Content-Type", self.content_type)]
        return Fault("respond", match, times, status=self.status, headers=headers, body=body.encode())


def _oauth(text: str, cause: str, server: str = "reference", source: str = "run") -> Words:
    body = {"error": "invalid_grant", "error_description": text}
    return Words(server, source, OAUTH, "dead", 400, body, cause=cause)


def _xrpc(error: str, text: str, cause: str, status: int = 400) -> Words:
    body = {"error": error, "message": text}
    return Words("reference", "run", LEGACY, "dead", status, body, cause=cause)


def _page(status: int) -> Words:
    return Words("an edge", "run", BOTH, "passing", status, "<html>Forbidden</html>", "text/html")


DEAD = (
    # Also said while the database is locked (run on @atproto/pds 0.5.35).
    _oauth("Invalid refresh token", "refresh_token_unknown"),
    _oauth("Refresh token replayed", "replayed"),
    _oauth("refresh token replayed", "replayed", "reference 0.4.123"),
    _oauth("Refresh token expired", "refresh_token_expired"),
    _oauth("Session expired", "session_expired"),
    _oauth("DPoP proof does not match the expected JKT", "wrong_dpop_key"),
    _oauth("Token was not issued to this client", "wrong_client"),
    _oauth("grant request is invalid", "refused", "oidc-provider 9.13.3"),
    _oauth("Refresh token reuse detected, session revoked", "replayed", "tranquil", "read"),
    _xrpc("ExpiredToken", "Token has been revoked", "revoked"),
    _xrpc("ExpiredToken", "Token has expired", "refresh_token_expired"),
    _xrpc("InvalidToken", "Token could not be verified", "refresh_token_unknown"),
    _xrpc("InvalidRequest", "Could not find user info for account: did:plc:x", "account_deleted"),
    Words("millipds", "run", BOTH, "dead", 401, "revoked token", "text/plain; charset=utf-8"),
    Words("cocoon", "read", OAUTH, "dead", 400, {"error": '"client_id" mismatch'}),
    Words("cocoon", "read", OAUTH, "dead", 400, {"error": "Session expired"}),
    Words("cocoon", "read", OAUTH, "dead", 400, {"error": "Refresh token expired"}),
    Words("cocoon", "read", OAUTH, "dead", 400, {"error": "dpop proof does not match expected jkt"}),
    Words("cocoon", "read", LEGACY, "dead", 400, {"error": "ExpiredToken", "message": "*"}),
    Words("cocoon", "read", LEGACY, "dead", 400, {"error": "InvalidToken"}),
    Words(
        "pegasus", "read", BOTH, "dead", 400, {"error": "InvalidRequest", "message": "invalid refresh token"}
    ),
    Words("any", "RFC 6749, 5.2", BOTH, "dead", 400, {"error": "invalid_request"}),
    Words("any", "RFC 6750, 3.1", BOTH, "dead", 401, {"error": "invalid_token"}),
    Words("any", "XRPC", BOTH, "dead", 401, {"error": "AuthenticationRequired", "message": "no"}),
    Words("any", "seen", BOTH, "dead", 400, {"message": "no such session"}),
    Words("any", "seen", BOTH, "dead", 403, {"error": "access_denied"}),
    Words("any", "seen", BOTH, "dead", 200, {"error": "invalid_grant"}),
)

CLIENT = (
    # rsky, tranquil, cirrus: also while they can't fetch the client's document.
    Words("rsky", "read", OAUTH, "client", 401, {"error": "invalid_client"}, cause="client_refused"),
    Words(
        "any", "RFC 6749, 5.2", OAUTH, "client", 400, {"error": "unauthorized_client"}, cause="client_refused"
    ),
    Words(
        "reference",
        "run",
        OAUTH,
        "client",
        400,
        {"error": "invalid_client_metadata", "error_description": "Unable to obtain client metadata"},
        cause="client_refused",
    ),
    Words(
        "reference", "run", LEGACY, "client", 401, {"error": "AccountTakedown"}, cause="account_taken_down"
    ),
)

PASSING = (
    Words("cocoon", "read", OAUTH, "passing", 400, {"error": "dpop proof too old"}),
    Words("cocoon", "read", OAUTH, "passing", 400, {"error": "dpop proof iat is in the future"}),
    Words("reference", "run", OAUTH, "passing", 401, {"error": "invalid_dpop_proof"}),
    Words("reference", "run", OAUTH, "passing", 400, {"error": "use_dpop_nonce"}),
    Words(
        "reference",
        "run",
        OAUTH,
        "passing",
        400,
        {"error": "invalid_grant", "error_description": "Invalid request payload: body.refresh_token"},
    ),
    Words("an edge", "run", BOTH, "passing", 408, {"error": "timeout"}),
    Words("an edge", "run", BOTH, "passing", 429, {"error": "invalid_grant"}),
    Words("an edge", "run", BOTH, "passing", 404, {"error": "not_found"}),
    Words("an edge", "run", BOTH, "passing", 403, {"message": "Forbidden"}),
    Words(
        "any", "run", BOTH, "passing", 500, {"error": "invalid_grant", "error_description": "Session expired"}
    ),
    Words("any", "run", BOTH, "passing", 503, {"error": "ExpiredToken", "message": "Token has been revoked"}),
    Words("any", "run", BOTH, "passing", 401, "", "text/plain"),
    Words("any", "run", BOTH, "passing", 400, {}),
    Words("any", "run", BOTH, "passing", 302, ""),
    *(_page(status) for status in (400, 401, 403, 502, 503)),
)

WORDS = (*DEAD, *CLIENT, *PASSING)
