"""Using a session from a client program: headers for any HTTP library, and httpx's own kind of auth.

Nothing here writes a record, except for `SessionAuth(refresh=True)`.
"""

from idiolectd.auth.destination import check_destination
from idiolectd.auth.session_auth import SessionAuth
from idiolectd.auth.signing import auth_headers

__all__ = ["SessionAuth", "auth_headers", "check_destination"]
