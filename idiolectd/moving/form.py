"""What a form is: how a program keeps a session."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from idiolectd.moving.found import Entry
from idiolectd.oauth import AuthorizationServer
from idiolectd.session import OAuthSession

# Makes what a program keeps of a session, as a JSON value. The server is known for OAuth sessions.
Encode = Callable[[OAuthSession, AuthorizationServer | None], Any]


@dataclass(frozen=True)
class Form:
    """How a program keeps a session.

    Attributes:
        name: what ``--form`` calls it.
        program: whose form it is.
        stop: what must not run any more once a session of it was imported.
        fits: whether an entry's fields are of this form; looks at names only.
        session: makes the session of an entry; raises `SessionError` with the reason if it is none.
        encode: makes what the program keeps; raises `SessionError` if it has no place for such a session.
            None: it can't be exported to.
        advice: what is better than to import an entry; None: nothing.
    """

    name: str
    program: str
    stop: str
    fits: Callable[[Mapping[str, Any]], bool]
    session: Callable[[Entry], OAuthSession]
    encode: Encode | None = None
    advice: Callable[[Entry], str | None] | None = None
