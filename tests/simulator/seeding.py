"""Accounts, clients and ready-made sessions, without any request.

Does: build session records in the JSON shape that the stores keep.
Does not: write a store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from joserfc.jwk import ECKey

from tests.jose import CURVES, decode, new_key, private_jwk, public_jwk, thumbprint
from tests.simulator.legacy import answer, new_session
from tests.simulator.oauth import rotate, valid_loopback_client
from tests.simulator.state import LOOPBACK_CLIENT_ID, SCOPE, Account, Client, OAuthSession, State


def timestamp(when: float) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def add_account(state: State, handle: str, password: str, did: str | None = None) -> Account:
    """A new account with a DID of its own."""
    account = Account(did or state.new_did(), handle, password)
    state.accounts[account.did] = account
    state.handles[handle.lower()] = account.did
    return account


def add_client(
    state: State,
    client_id: str,
    jwks: dict[str, Any] | list[dict[str, Any]],
    redirect_uris: Sequence[str] = (),
) -> Client:
    """A client with a metadata document: confidential if it has keys. Private JWKs are reduced to public ones."""
    keys = jwks["keys"] if isinstance(jwks, dict) else jwks
    members = ("kty", "crv", "x", "y")
    public = {key["kid"]: {name: key[name] for name in members} for key in keys}
    client = Client(client_id, public, tuple(redirect_uris))
    state.clients[client_id] = client
    return client


def new_client_key(kid: str, alg: str = "ES256") -> dict[str, str]:
    """A private JWK for a confidential client."""
    return {**private_jwk(new_key(alg)), "kid": kid, "alg": alg, "use": "sig"}


def dpop_key(state: State, alg: str) -> ECKey:
    """A private key that is the same for the same seed."""
    # 31 bytes are below the order of either curve, and a zero is not worth a thought.
    assert alg in CURVES
    return new_key(alg, state.random.randbytes(31))


def seed_oauth(
    state: State,
    account: Account,
    *,
    client_id: str | None = None,
    dpop_key_: ECKey | None = None,
    alg: str = "ES256",
    client_key_id: str | None = None,
    scope: str = SCOPE,
) -> dict[str, Any]:
    """Log an account in and return the session record."""
    client_id = client_id or LOOPBACK_CLIENT_ID
    client = state.clients.get(client_id)
    if client is None and not valid_loopback_client(client_id):
        raise ValueError(f"not a loopback client and not added: {client_id}")
    kid = key_jkt = None
    if client is not None and client.keys:
        kid = client_key_id or next(iter(client.keys))
        key_jkt = thumbprint(client.keys[kid])
    key = dpop_key_ or dpop_key(state, alg)
    now = state.now
    session = OAuthSession(
        did=account.did,
        client_id=client_id,
        client_key_id=kid,
        client_key_jkt=key_jkt,
        dpop_jkt=thumbprint(public_jwk(key)),
        scope=scope,
        created_at=now,
        updated_at=now,
        refresh_token="",
    )
    state.oauth_sessions.append(session)
    rotate(state, session)
    session.generation = 0
    idle, total = state.lifetimes(session)
    record: dict[str, Any] = {
        "did": account.did,
        "pdsUrl": state.pds_url,
        "accessJwt": session.access_token,
        "refreshJwt": session.refresh_token,
        "dpopPrivateKeyJwk": json.dumps(private_jwk(key), separators=(",", ":")),
        "tokenType": "DPoP",
        "scope": scope,
        "handle": account.handle,
        "issuedAt": timestamp(now),
        "expiresAt": timestamp(state.access_tokens[session.access_token].expires_at),
        "refreshExpiresAt": timestamp(now + min(idle, total)),
        "issuer": state.issuer,
        "clientId": client_id,
        "clientAuthMethod": "none" if kid is None else "private_key_jwt",
        "sessionStartedAt": timestamp(now),
    }
    if kid is not None:
        record["clientKeyId"] = kid
    return record


def seed_legacy(state: State, account: Account) -> dict[str, Any]:
    """Log an account in with its app password and return the session record."""
    session = new_session(state, account)
    fields = answer(state, account, session)
    return {
        "did": account.did,
        "pdsUrl": state.pds_url,
        "accessJwt": fields["accessJwt"],
        "refreshJwt": fields["refreshJwt"],
        "dpopPrivateKeyJwk": "",
        "tokenType": "Bearer",
        "scope": decode(fields["accessJwt"])[1]["scope"],
        "handle": account.handle,
        "issuedAt": timestamp(state.now),
        "expiresAt": timestamp(state.legacy_tokens[fields["accessJwt"]].expires_at),
        "refreshExpiresAt": timestamp(state.legacy_tokens[fields["refreshJwt"]].expires_at),
    }
