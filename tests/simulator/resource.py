"""The PDS as a resource server: the calls that clients make with their tokens.

Does: authenticate Bearer and DPoP requests; getSession, createRecord, resolveHandle, describeServer.
Does not: store records (they are counted), or issue tokens.
"""

from __future__ import annotations

import json

from tests.simulator.legacy import account_fields, auth_missing, bearer, refuse_takedown
from tests.simulator.proofs import NonceNeeded, ProofError, ProofRules, verify_proof
from tests.simulator.state import Account, State
from tests.simulator.wire import Refused, Request, Response, json_response, resource_error, xrpc_error


def get_session(state: State, request: Request) -> Response:
    """``com.atproto.server.getSession``: works for deactivated accounts too."""
    return json_response(200, account_fields(_authenticate(state, request)))


def create_record(state: State, request: Request) -> Response:
    """``com.atproto.repo.createRecord``: checked and counted, not kept."""
    account = _authenticate(state, request)
    if account.status == "deactivated":
        raise xrpc_error(401, "AccountDeactivated", "Account is deactivated")
    try:
        body = json.loads(request.body)
        repo, collection = body["repo"], body["collection"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise xrpc_error(400, "InvalidRequest", "Input must have repo and collection") from error
    if repo not in (account.did, account.handle):
        raise xrpc_error(403, "Forbidden", "Invalid repo")
    state.counters.records_created += 1
    number = state.counters.records_created
    return json_response(
        200, {"uri": f"at://{account.did}/{collection}/{number:013d}", "cid": f"bafysim{number}"}
    )


def resolve_handle(state: State, request: Request) -> Response:
    """``com.atproto.identity.resolveHandle``."""
    did = state.handles.get(request.query.get("handle", "").lower())
    if did is None or state.accounts[did].status == "deleted":
        raise xrpc_error(400, "InvalidRequest", "Unable to resolve handle")
    return json_response(200, {"did": did})


def describe_server(state: State) -> Response:
    """``com.atproto.server.describeServer``."""
    return json_response(
        200, {"did": state.service_did, "availableUserDomains": [".test"], "inviteCodeRequired": False}
    )


def _authenticate(state: State, request: Request) -> Account:
    state.counters.api_calls += 1
    scheme, _, value = (request.get("authorization") or "").partition(" ")
    try:
        if scheme.lower() == "dpop" and value:
            return _authenticate_dpop(state, request, value)
        if scheme.lower() == "bearer" and value:
            return _authenticate_bearer(state, request)
        raise auth_missing()
    except Refused as refused:
        if refused.response.json()["error"] != "use_dpop_nonce":
            state.counters.api_refusals += 1
            did = did_of_token(state, value)
            if did is not None:
                state.counters.api_refusals_by_did[did] += 1
        raise


def did_of_token(state: State, value: str) -> str | None:
    """Whose token this is, whatever its kind and whether or not it is still good."""
    if value in state.access_tokens:
        return state.access_tokens[value].session.did
    session = state.refresh_tokens.get(value) or (
        state.legacy_tokens[value].session if value in state.legacy_tokens else None
    )
    return session.did if session is not None else None


def _authenticate_bearer(state: State, request: Request) -> Account:
    _, token = bearer(state, request, "access")
    if state.now >= token.expires_at:
        raise xrpc_error(400, "ExpiredToken", "Token has expired")
    account = state.accounts[token.session.did]
    if account.status == "deleted":
        raise xrpc_error(400, "InvalidRequest", f"Could not find user info for account: {account.did}")
    refuse_takedown(account)
    return account


def _authenticate_dpop(state: State, request: Request, value: str) -> Account:
    rules = ProofRules(
        origin=state.pds_url,
        now=state.now,
        window=state.options.proof_window,
        nonces=state.nonces(authorization_server=False),
        nonce_rotation=state.options.nonce_rotation,
        seen=state.proofs_seen,
    )
    try:
        jkt = verify_proof(request, rules, access_token=value)
    except ProofError as error:
        raise resource_error("invalid_dpop_proof", str(error)) from error
    except NonceNeeded as error:
        state.counters.nonce_requests += 1
        raise resource_error("use_dpop_nonce", f"Resource server {error}") from error
    token = state.access_tokens.get(value)
    if token is None:
        raise resource_error("invalid_token", "Invalid token")
    # Expiry is judged first, so that an expired and a rotated-and-expired token look alike.
    if state.now >= token.expires_at:
        raise resource_error("invalid_token", '"exp" claim timestamp check failed')
    if not token.current:
        raise resource_error("invalid_token", "Invalid token")
    if jkt != token.session.dpop_jkt:
        raise resource_error("invalid_token", "Invalid DPoP key binding")
    account = state.accounts[token.session.did]
    if account.status == "deleted":
        raise resource_error("invalid_token", "Invalid token")
    refuse_takedown(account)
    return account
