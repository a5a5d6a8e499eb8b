"""The token endpoint: what every grant has in common, then the grant.

Does: parse, proof and nonce, client authentication, in the reference server's order.
Does not: know any other grant than a refresh token's and a login's code.
"""

from __future__ import annotations

from tests.simulator.authorization import check_code_payload, redeem
from tests.simulator.oauth import (
    authenticate_client,
    check_proof,
    check_refresh_payload,
    parse_form,
    refresh,
)
from tests.simulator.state import State
from tests.simulator.wire import Request, Response, oauth_error


def token(state: State, request: Request) -> Response:
    """Answer a token request."""
    if request.method != "POST":
        raise oauth_error(405, "invalid_request", "Method Not Allowed")
    form = parse_form(request)
    match form.get("grant_type"):
        case "refresh_token":
            state.counters.refresh_requests += 1
            check, grant = check_refresh_payload, refresh
        case "authorization_code":
            check, grant = check_code_payload, redeem
        case other:
            raise oauth_error(
                400, "invalid_grant", f'Invalid request payload: unsupported "grant_type" {other!r}'
            )
    check(form)
    jkt = check_proof(state, request)
    kid, key_jkt = authenticate_client(state, form, jkt)
    return grant(state, form, jkt, kid, key_jkt)
