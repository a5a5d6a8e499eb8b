"""OAuth sessions: discovery, DPoP, client authentication; the refresher and the login built of them.

What signs a request is imported at once, the rest when it is first used: who only signs pays for nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from idiolectd.oauth.keys import SigningKey
from idiolectd.oauth.proof import DpopKey
from idiolectd.oauth.proof_retry import ProofRetry

if TYPE_CHECKING:
    from idiolectd.oauth.authorization_request import (
        CALLBACK_PATH,
        LOOPBACK_HOST,
        AuthorizationRequest,
        GrantedSession,
        LoginClient,
        loopback_client,
    )
    from idiolectd.oauth.client_auth import ClientRegistry, OAuthClient, UnusableKey
    from idiolectd.oauth.client_metadata import ClientMetadata, MetadataFinding, check_hosted_metadata
    from idiolectd.oauth.discovery import AuthorizationServer, Discovery
    from idiolectd.oauth.oauth_refresher import OAuthRefresher

__all__ = [
    "CALLBACK_PATH",
    "LOOPBACK_HOST",
    "AuthorizationRequest",
    "AuthorizationServer",
    "ClientMetadata",
    "ClientRegistry",
    "Discovery",
    "DpopKey",
    "GrantedSession",
    "LoginClient",
    "MetadataFinding",
    "OAuthClient",
    "OAuthRefresher",
    "ProofRetry",
    "SigningKey",
    "UnusableKey",
    "check_hosted_metadata",
    "loopback_client",
]

_HOMES = {
    "CALLBACK_PATH": "authorization_request",
    "LOOPBACK_HOST": "authorization_request",
    "AuthorizationRequest": "authorization_request",
    "AuthorizationServer": "discovery",
    "ClientMetadata": "client_metadata",
    "ClientRegistry": "client_auth",
    "Discovery": "discovery",
    "GrantedSession": "authorization_request",
    "LoginClient": "authorization_request",
    "MetadataFinding": "client_metadata",
    "OAuthClient": "client_auth",
    "OAuthRefresher": "oauth_refresher",
    "UnusableKey": "client_auth",
    "check_hosted_metadata": "client_metadata",
    "loopback_client": "authorization_request",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
