"""From an HTTP answer that is not tokens to what it means for a session: both protocols' one place.

The words of a protocol error are judged by the table in `idiolectd.outcome`; here is what HTTP adds:
status classes, rate limits, and answers that no application wrote.
"""

from collections.abc import Collection

from idiolectd.errors import NotSent, Unclear
from idiolectd.http.error_response import ErrorResponse, challenge_error
from idiolectd.http.response import Response, retry_after, text_member
from idiolectd.outcome import Ambiguous, Code, Retry, Verdict, judge
from idiolectd.ports import AccessTokenStatus, Probe, Refused
from idiolectd.session import Kind

# A gateway answers these when the server behind it did not, or not in time: it may have acted all
# the same. The server's own two words for "not now" are not among them: measured, nothing is
# consumed then.
_SERVER_ITSELF = (500, 503)

# A PDS's words for an access token that has ended or was never one.
_TOKEN_IS_OVER = {(401, "invalid_token")} | {
    (status, error) for status in (400, 401) for error in ("ExpiredToken", "InvalidToken")
}


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
