"""Legacy sessions (app passwords, Bearer tokens) over XRPC."""

from idiolectd.errors import LoginError
from idiolectd.xrpc.login import create_session
from idiolectd.xrpc.refresher import LegacyRefresher

__all__ = ["LegacyRefresher", "LoginError", "create_session"]
