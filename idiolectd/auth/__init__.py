"""Using a session from a client program: headers for any HTTP library, and httpx's own kind of auth.

Nothing here writes a record.
"""

from idiolectd.auth.headers import auth_headers

__all__ = ["auth_headers"]
