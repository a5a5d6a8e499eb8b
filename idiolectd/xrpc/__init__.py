"""Legacy sessions (app passwords, Bearer tokens) over XRPC."""

from idiolectd.xrpc.legacy_login import create_session
from idiolectd.xrpc.legacy_refresher import LegacyRefresher

__all__ = ["LegacyRefresher", "create_session"]
