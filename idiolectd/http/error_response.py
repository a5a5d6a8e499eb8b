"""From an HTTP answer that is not tokens to what it means for a session: both protocols' one place.

The words of a protocol error are judged by the table in `idiolectd.outcome`; here is what HTTP adds:
status classes, rate limits, and answers that no application wrote.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from idiolectd.errors import NotSent, Unclear
from idiolectd.foreign import without
from idiolectd.http.challenges import parse_challenges
from idiolectd.http.response import Response, retry_after, text_member
from idiolectd.outcome import Ambiguous, Code, Retry, Verdict, judge
from idiolectd.ports import AccessTokenStatus, Probe, Refused
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

# The statuses that can speak of a token (RFC 6749, section 5.2; XRPC). 404, 405, 408, 413, ... speak of
# the request or of the place. Edges have pages and JSON of their own for the second group, so only a
# protocol's error code counts there.
_OF_A_TOKEN = (400, 401)
_OF_A_TOKEN_BY_CODE = (403, 409, 410, 422)

# What tells whether a PDS takes an access token, at little cost and for any scope.
GET_SESSION = "com.atproto.server.getSession"

# A PDS's words for an access token that has ended or was never one.
_TOKEN_IS_OVER = {(401, "invalid_token")} | {
    (status, error) for status in (400, 401) for error in ("ExpiredToken", "InvalidToken")
}


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


def _plain_text(response: Response) -> str:
    """A body that says to be plain text; empty: it is anything else."""
    if not response.headers.get("content-type", "").lower().startswith("text/plain"):
        return ""
    text = response.body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text


def judge_refusal(
    kind: Kind, response: Response, refusal: ErrorResponse, *, now: float, secrets: Collection[str]
) -> Refused | Retry | Ambiguous:
    """What an answer other than tokens means for the session.

    Args:
        kind: which protocol was spoken.
        response: the answer.
        refusal: the error in it.
        now: our clock, for `Retry-After`.
        secrets: what was sent and must not be repeated in a message.
    """
    status = response.status
    code, text = refusal.told(status, secrets)
    message = f"{status} {code}" + (f": {text}" if text else "")
    pause = retry_after(response, now)
    if status >= 500:
        if status in _SERVER_ITSELF:
            return Retry(code, message, pause, issuer_wide=True)
        return Ambiguous(code, message)
    if status == 429:
        return Retry(code, message, pause, issuer_wide=True, rate_limited=True)
    if 300 <= status < 400 or status < 200:
        message = f"{message}: a redirect or a status without meaning here; not followed"
        return Retry(code, message, pause, issuer_wide=True)
    if not refusal.speaks_of_a_token(status):
        # What no application wrote, an edge did, or a firewall: the server's trouble, not this session's.
        return Retry(code, message, pause, issuer_wide=not refusal.is_spoken)
    row = judge(kind, refusal.error, refusal.text)
    match row.verdict:
        case Verdict.NONCE | Verdict.RETRY:
            return Retry(code, message, pause)
        case _:
            return Refused(row.verdict, row.cause, code, message, pause)


def judge_probe(response: Response, did: str) -> Probe:
    """What a PDS's answer to `GET_SESSION` says of the access token that went along.

    Only words about the token are a no: a takedown, a page, a proof that was refused are none. Servers
    have several: the specification's, XRPC's, and (millipds) a bare 401 in plain text.

    Args:
        response: the answer.
        did: whose token it was.
    """
    taken, owner = AccessTokenStatus.UNKNOWN, None
    if response.status == 200:
        owner = text_member(response.json_object() or {}, "did")
        taken = AccessTokenStatus.ACCEPTED if owner == did else AccessTokenStatus.UNKNOWN
    else:
        refusal = ErrorResponse.found(response)
        error = challenge_error(response) or refusal.error
        is_plain = error is None and refusal.is_spoken and response.json_object() is None
        if (response.status, error) in _TOKEN_IS_OVER or is_plain:
            taken = AccessTokenStatus.REFUSED
    return Probe(taken, response.date, owner)


def judge_failure(error: NotSent | Unclear) -> Retry | Ambiguous:
    """What an exchange without a whole answer means, if it carried a refresh token."""
    match error:
        case NotSent():
            return judge_not_sent(error)
        case Unclear():
            return Ambiguous(error.code, str(error))


def judge_not_sent(error: NotSent) -> Retry:
    """What it means that nothing of a request left this machine."""
    return Retry(error.code, str(error), issuer_wide=not is_our_refusal(error))


def is_our_refusal(error: NotSent | Unclear) -> bool:
    """Whether we would not send it: this session's own trouble, of which no server knows."""
    return error.code in (Code.GUARD, Code.HEADER)


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
