"""From an HTTP answer that is not tokens to what it means for a session: both protocols' one place.

The words of a protocol error are judged by the table in `idiolectd.outcome`; here is what HTTP adds:
status classes, rate limits, and answers that no protocol wrote.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from idiolectd.errors import NotSent, Unclear
from idiolectd.foreign import without
from idiolectd.http.response import Response, retry_after
from idiolectd.outcome import Ambiguous, ReloginRequired, Retry, Suspended, Verdict, judge
from idiolectd.ports import Doubtful
from idiolectd.session import Kind

_MAX_TEXT = 200
_MAX_CODE = 64

# A server may send 256 KiB of text. So much of it is looked at: enough that `_MAX_TEXT` characters are left
# when a few quoted tokens are taken out.
_MOST_READ = 4096

# Our own assertions and proofs are JWTs too, and a server may quote what it refuses. Whatever begins like
# one matches to its end: an attempt that failed there would be made again at each "eyJ" inside.
_JWT = re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*)*", re.ASCII)

# A gateway answers these when the server behind it did not, or not in time: it may have acted all
# the same. The server's own two words for "not now" are not among them: measured, nothing is
# consumed then.
_SERVER_ITSELF = (500, 503)

Refused = Doubtful | Retry | Ambiguous | Suspended | ReloginRequired


@dataclass(frozen=True)
class Refusal:
    """A protocol's error as it was found in an answer; `error` None: there was none.

    Attributes:
        error: the error code.
        text: the description beside it.
    """

    error: str | None
    text: str

    @classmethod
    def found(cls, response: Response, text_field: str) -> "Refusal":
        """Reads ``{"error": …, TEXT_FIELD: …}``, the shape that OAuth and XRPC share."""
        body = response.json_object() or {}
        error, text = body.get("error"), body.get(text_field)
        return cls(
            error[:_MOST_READ] if isinstance(error, str) and error else None,
            text[:_MOST_READ] if isinstance(text, str) else "",
        )


def judge_refusal(
    kind: Kind, response: Response, refusal: Refusal, *, now: float, secrets: Collection[str]
) -> Refused:
    """What an answer other than tokens means for the session.

    Args:
        kind: which protocol was spoken.
        response: the answer; its status is not 2xx.
        refusal: the protocol's error in it.
        now: our clock, for `Retry-After`.
        secrets: what was sent and must not be repeated in a message.
    """
    status = response.status
    code = safe_text(refusal.error or "", secrets)[:_MAX_CODE] or f"http_{status}"
    message = f"{status} {code}" + (f": {shown}" if (shown := safe_text(refusal.text, secrets)) else "")
    pause = retry_after(response, now)
    if status >= 500:
        if status in _SERVER_ITSELF:
            return Retry(code, message, pause, issuer_wide=True)
        return Ambiguous(code, message)
    if status == 429:
        return Retry(code, message, pause, issuer_wide=True)
    if status < 400:
        return Retry(code, f"{message}: a redirect or a status without meaning here; not followed")
    row = judge(kind, refusal.error, refusal.text)
    match row.verdict:
        case Verdict.NONCE | Verdict.RETRY:
            return Retry(code, message, pause)
        case Verdict.CONFIRM:
            return Doubtful(row.cause, code, message)
        case Verdict.SUSPEND:
            return Suspended(row.cause, code, message)
        case Verdict.FINAL:
            return ReloginRequired(row.cause, code, message)


def judge_failure(error: NotSent | Unclear) -> Retry | Ambiguous:
    """What an exchange without a whole answer means, if it carried a refresh token."""
    match error:
        case NotSent(code="header"):
            return Retry(error.code, str(error))  # this session's own trouble, not the server's
        case NotSent():
            return Retry(error.code, str(error), issuer_wide=True)
        case Unclear():
            return Ambiguous(error.code, str(error))


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
