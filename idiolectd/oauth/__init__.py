"""OAuth sessions: discovery, DPoP, client authentication; the refresher and the login built of them."""

from idiolectd.oauth.authorization import Authorization, Granted, LoginClient, loopback_client
from idiolectd.oauth.client_auth import CLIENT_KEY_UNUSABLE, ClientRegistry, OAuthClient, UnusableKey
from idiolectd.oauth.client_metadata import ClientMetadata, Looked, look_at_hosted
from idiolectd.oauth.discovery import AuthorizationServer, Discovery
from idiolectd.oauth.dpop import DpopKey
from idiolectd.oauth.keys import SigningKey
from idiolectd.oauth.refresher import OAuthRefresher

__all__ = [
    "CLIENT_KEY_UNUSABLE",
    "Authorization",
    "AuthorizationServer",
    "ClientMetadata",
    "ClientRegistry",
    "Discovery",
    "DpopKey",
    "Granted",
    "LoginClient",
    "Looked",
    "OAuthClient",
    "OAuthRefresher",
    "SigningKey",
    "UnusableKey",
    "look_at_hosted",
    "loopback_client",
]
