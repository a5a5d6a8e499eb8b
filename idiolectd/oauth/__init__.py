"""OAuth sessions: discovery, DPoP, client authentication; the refresher and the login built of them."""

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
from idiolectd.oauth.dpop import DpopKey
from idiolectd.oauth.keys import SigningKey
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
    "SigningKey",
    "UnusableKey",
    "check_hosted_metadata",
    "loopback_client",
]
