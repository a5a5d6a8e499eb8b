"""An answer that arrived whole, and what its headers say about time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from idiolectd.errors import Unclear
from idiolectd.foreign import REPLACEMENT, json_object, number
from idiolectd.http.arrived import members

# A server's wish to be left alone is honoured up to here; a wrong number must not end a session.
_MAX_RETRY_AFTER = 86_400.0


@dataclass(frozen=True)
class Response:
    """One answer. `repr` shows the status only: bodies hold tokens.

    Attributes:
        status: as sent; a 3xx is an answer like any other.
        headers: names in lower case; several of one name are joined with a comma.
        body: decoded, at most `idiolectd.http.http_client.MAX_BODY` bytes.
        date: the server's clock (RFC 9110, section 6.6.1), seconds since the epoch; None: not said.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    date: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status says that the server has done what was asked (2xx)."""
        return 200 <= self.status < 300

    @property
    def may_pass(self) -> bool:
        """Whether the status says that the server could not, and may later: 429 (RFC 6585) and 5xx."""
        return self.status == 429 or self.status >= 500

    def json_object(self) -> dict[str, Any] | None:
        """The body, if it is a JSON object; None if it is anything else. See `foreign.json_object`."""
        return json_object(self.body)

    def members(self) -> dict[str, Any]:
        """The members of the JSON object in the body that arrived whole, for whoever looks for tokens.

        All of them if the body is a JSON object; else those in front of where it is cut off, whatever
        else stands around the object. Nothing follows from one that is missing.
        """
        whole = self.json_object()
        return members(self.body) if whole is None else whole


class CutOff(Unclear):
    """An answer came, and not whole: its frame is broken, or it took too long.

    Nobody knows what it would have said. But if the part that came holds the new tokens, they are here.

    Attributes:
        response: what arrived.
    """

    def __init__(self, code: str, message: str, response: Response) -> None:
        super().__init__(code, message)
        self.response = response


def text_member(values: Mapping[str, Any], name: str) -> str | None:
    """A member of a JSON object that is a non-empty string, and arrived undamaged (see `json_object`)."""
    value = values.get(name)
    return value if isinstance(value, str) and value and REPLACEMENT not in value else None


def retry_after(response: Response, now: float) -> float | None:
    """How many seconds the server asks to be left alone; None if it does not ask.

    `Retry-After` in both forms (RFC 9110, section 10.2.3), else on a 429 `RateLimit-Reset`, which
    ATProto servers give in seconds since the epoch. Points in time are the server's, so they are
    compared with its own `Date` where there is one.
    """
    server_now = now if response.date is None else response.date
    wish = response.headers.get("retry-after", "")
    seconds = number(wish)
    if seconds is None:
        until = http_date(wish)
        if until is None and response.status == 429:
            until = number(response.headers.get("ratelimit-reset", ""))
        seconds = None if until is None else until - server_now
    return None if seconds is None else min(max(0.0, seconds), _MAX_RETRY_AFTER)


@lru_cache(maxsize=64)  # all answers of one second have the same
def http_date(text: str) -> float | None:
    """An HTTP-date as seconds since the epoch, or None. It is always in UTC (RFC 9110, section 5.6.7)."""
    try:
        found = parsedate_to_datetime(text)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
