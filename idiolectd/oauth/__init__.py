"""OAuth sessions: discovery, DPoP, client authentication, and the refresher built of them."""

from idiolectd.oauth.client_auth import ClientRegistry, OAuthClient
from idiolectd.oauth.discovery import AuthorizationServer, Discovery
from idiolectd.oauth.dpop import DpopKey
from idiolectd.oauth.keys import SigningKey
from idiolectd.oauth.refresher import OAuthRefresher

__all__ = [
    "AuthorizationServer",
    "ClientRegistry",
    "Discovery",
    "DpopKey",
    "OAuthClient",
    "OAuthRefresher",
    "SigningKey",
]
