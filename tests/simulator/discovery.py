"""The documents by which clients find servers: OAuth metadata and DID documents.

Does: name the origins that the simulator believes it has.
Does not: look at who asks, or at which origin.
"""

from __future__ import annotations

import json

from tests.simulator.authorization import AUTHORIZE_PATH, PAR_PATH
from tests.simulator.oauth import REVOKE_PATH, TOKEN_PATH
from tests.simulator.state import State
from tests.simulator.wire import Response, json_response


def protected_resource(state: State) -> Response:
    """``/.well-known/oauth-protected-resource`` (RFC 9728)."""
    return json_response(
        200,
        {
            "resource": state.pds_url,
            "authorization_servers": [state.issuer],
            "scopes_supported": [],
            "bearer_methods_supported": ["header"],
            "resource_documentation": "https://atproto.com",
        },
    )


def authorization_server(state: State) -> Response:
    """``/.well-known/oauth-authorization-server`` (RFC 8414) with what atproto demands of it."""
    issuer = state.issuer
    return json_response(
        200,
        {
            "issuer": issuer,
            "authorization_endpoint": issuer + AUTHORIZE_PATH,
            "token_endpoint": issuer + TOKEN_PATH,
            "revocation_endpoint": issuer + REVOKE_PATH,
            "pushed_authorization_request_endpoint": issuer + PAR_PATH,
            "require_pushed_authorization_requests": True,
            "scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256", "ES256K"],
            "dpop_signing_alg_values_supported": ["ES256", "ES256K"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": True,
            "protected_resources": [state.pds_url],
        },
    )


def did_document(state: State, did: str) -> Response:
    """The directory's answer for one DID."""
    account = state.accounts.get(did)
    if account is None:
        return json_response(404, {"message": f"DID not registered: {did}"})
    if account.status == "deleted":
        return json_response(410, {"message": f"DID not available: {did}"})
    document = {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did,
        "alsoKnownAs": [f"at://{account.handle}"],
        "verificationMethod": [],
        "service": [
            {
                "id": "#atproto_pds",
                "type": "AtprotoPersonalDataServer",
                "serviceEndpoint": account.pds_url or state.pds_url,
            }
        ],
    }
    body = json.dumps(document).encode()
    return Response(200, [("Content-Type", "application/did+ld+json; charset=utf-8")], body)
