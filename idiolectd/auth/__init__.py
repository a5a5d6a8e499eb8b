"""Using a session from a client program: headers for any HTTP library, and what all adapters of libraries share.

Nothing here writes a record, except for `SessionAuth(refresh=True)`.
"""

from idiolectd.auth.auth_flow import body_of
from idiolectd.auth.destination import check_destination
from idiolectd.auth.session_auth import SessionAuthBase
from idiolectd.auth.signing import auth_headers
from idiolectd.auth.steps import ReadBeginning, ReadBody, RequestBody, Send, Step, Steps, Work

__all__ = [
    "ReadBeginning",
    "ReadBody",
    "RequestBody",
    "Send",
    "SessionAuthBase",
    "Step",
    "Steps",
    "Work",
    "auth_headers",
    "body_of",
    "check_destination",
]
