"""HTTP as the rest of the house sees it: one request, one whole answer or one of two errors.

httpx is its face: requests are httpx's, and any of httpx's asynchronous transports may stand below
`HttpClient`. The connections are its own, framed by h11. Rules: https, or plain http to loopback if allowed;
no redirects, cookies, proxies from the environment; addresses are checked before they are dialled; a request
without a whole answer is `NotSent` or `Unclear`, and nothing in between. It knows no tokens and no protocols:
those are `oauth` and `xrpc`. `error_response` is where both of them meet the table of errors.
"""

from idiolectd.http.arrived import unpacked
from idiolectd.http.challenges import Challenge, parse_challenges
from idiolectd.http.error_response import (
    GET_SESSION,
    ErrorResponse,
    challenge_error,
    is_our_refusal,
    judge_failure,
    judge_not_sent,
    judge_probe,
    judge_refusal,
    safe_text,
)
from idiolectd.http.guard import NetworkPolicy, check_address, check_url, origin
from idiolectd.http.http_client import HttpClient
from idiolectd.http.origin_pools import OriginPools
from idiolectd.http.response import CutOff, Response, retry_after, text_member
from idiolectd.http.trust import Trust, tls_context

__all__ = [
    "GET_SESSION",
    "Challenge",
    "CutOff",
    "ErrorResponse",
    "HttpClient",
    "NetworkPolicy",
    "OriginPools",
    "Response",
    "Trust",
    "challenge_error",
    "check_address",
    "check_url",
    "is_our_refusal",
    "judge_failure",
    "judge_not_sent",
    "judge_probe",
    "judge_refusal",
    "origin",
    "parse_challenges",
    "retry_after",
    "safe_text",
    "text_member",
    "tls_context",
    "unpacked",
]
