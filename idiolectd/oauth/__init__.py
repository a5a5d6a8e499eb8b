"""OAuth sessions: discovery, DPoP, client authentication; the refresher and the login built of them."""

from idiolectd.oauth.authorization_request import (
    CALLBACK_PATH,
    LOOPBACK_HOST,
    AuthorizationRequest,
    Granted,
    LoginClient,
    loopback_client,
)
from idiolectd.oauth.client_auth import ClientRegistry, OAuthClient, UnusableKey
from idiolectd.oauth.client_metadata import ClientMetadata, FetchedMetadata, look_at_hosted
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
    "FetchedMetadata",
    "Granted",
    "LoginClient",
    "OAuthClient",
    "OAuthRefresher",
    "SigningKey",
    "UnusableKey",
    "look_at_hosted",
    "loopback_client",
]
