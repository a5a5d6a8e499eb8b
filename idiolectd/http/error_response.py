"""The error in an HTTP answer, in the words of both protocols; what it means is judged in `judging`."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from idiolectd.foreign import without
from idiolectd.http.challenges import parse_challenges
from idiolectd.http.response import Response

_MAX_TEXT = 200
_MAX_CODE = 64

# A server may send 256 KiB of text. So much of it is looked at: enough that `_MAX_TEXT` characters are left
# when a few quoted tokens are taken out.
_MOST_READ = 4096

# Our own assertions and proofs are JWTs too, and a server may quote what it refuses. Whatever begins like
# one matches to its end: an attempt that failed there would be made again at each "eyJ" inside.
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*", re.ASCII)

# The statuses that can speak of a token (RFC 6749, section 5.2; XRPC). 404, 405, 408, 413, ... speak of
# the request or of the place. Edges have pages and JSON of their own for the second group, so only a
# protocol's error code counts there.
_OF_A_TOKEN = (400, 401)
_OF_A_TOKEN_BY_CODE = (403, 409, 410, 422)


@dataclass(frozen=True)
class ErrorResponse:
    """An error as it was found in an answer.

    Attributes:
        error: the error code; None: there was none.
        text: the description beside it.
        is_spoken: an application wrote it, and no edge or captive portal: JSON, or a 401 in plain text.
    """

    error: str | None = field(repr=False)
    text: str = field(repr=False)
    is_spoken: bool

    @classmethod
    def found(cls, response: Response) -> "ErrorResponse":
        """Reads ``{"error": …}``, the shape that OAuth and XRPC share, with either one's description.

        Else the error of a `WWW-Authenticate` challenge (RFC 6750, section 3), and a 401 in plain text.
        """
        challenged = challenge_error(response)
        body = response.json_object()
        if body is None:
            text = _plain_text(response) if response.status == 401 else ""
            return cls(challenged, text, bool(challenged or text))
        error = body.get("error")
        texts = (body.get("error_description"), body.get("message"))
        is_odd = "error" in body and not isinstance(error, str)
        return cls(
            error[:_MOST_READ] if isinstance(error, str) and error.strip() else challenged,
            next((text[:_MOST_READ] for text in texts if isinstance(text, str)), ""),
            bool(body) and not is_odd,
        )

    def told(self, status: int, secrets: Collection[str] = ()) -> tuple[str, str]:
        """The error code and the text for people, without what was sent.

        Args:
            status: of the answer; it stands in for a code that is missing.
            secrets: what was sent, which the server may quote.
        """
        code = safe_text(self.error or "", secrets)[:_MAX_CODE] or f"http_{status}"
        return code, safe_text(self.text, secrets)

    def speaks_of_a_token(self, status: int) -> bool:
        """Whether it can be about the token that was sent."""
        if status in _OF_A_TOKEN:
            return self.is_spoken
        # Some servers report an error with a status that says success.
        return self.error is not None and (status in _OF_A_TOKEN_BY_CODE or 200 <= status < 300)


def challenge_error(response: Response) -> str | None:
    """The error code of a `WWW-Authenticate` challenge (RFC 6750, section 3), if there is one.

    A PDS names each scheme that it takes; the DPoP one speaks of proofs, so it goes first.
    """
    challenges = parse_challenges(response.headers.get("www-authenticate", ""))
    challenges.sort(key=lambda challenge: challenge.scheme != "dpop")
    return next((error for one in challenges if (error := one.parameters.get("error"))), None)


def error_of(response: Response) -> str | None:
    """The error code of a refusal, from `WWW-Authenticate` (a PDS) or from the body (all servers)."""
    if not 400 <= response.status < 500:
        return None
    return challenge_error(response) or ErrorResponse.found(response).error


def _plain_text(response: Response) -> str:
    """A body that says to be plain text; empty: it is anything else."""
    if not response.headers.get("content-type", "").lower().startswith("text/plain"):
        return ""
    text = response.body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text


def safe_text(text: str, secrets: Collection[str] = ()) -> str:
    """A server's text for people: no control characters, nothing secret, at most 200 characters.

    Costs the same however long the text is: the rest of it is cut off first.

    Args:
        text: as it came.
        secrets: what the server was sent; it may quote any part of it.
    """
    text = without(_cut(text, secrets), secrets)
    text = _JWT.sub("…", text)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _cut(text: str, secrets: Collection[str]) -> str:
    """The beginning of a text; if the cut went through a secret, without what is left of that."""
    if len(text) < _MOST_READ:
        return text
    text = text[:_MOST_READ]
    for secret in secrets:
        for length in range(min(len(secret), _MOST_READ), 3, -1):
            if text.endswith(secret[:length]):
                return text[:-length]
    return text
