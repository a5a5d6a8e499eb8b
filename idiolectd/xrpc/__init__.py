"""Legacy sessions (app passwords, Bearer tokens) over XRPC."""

from idiolectd.xrpc.legacy_login import AUTH_FACTOR_TOKEN_REQUIRED, create_session
from idiolectd.xrpc.legacy_refresher import LegacyRefresher

__all__ = ["AUTH_FACTOR_TOKEN_REQUIRED", "LegacyRefresher", "create_session"]
