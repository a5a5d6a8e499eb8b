"""HTTP as the rest of the house sees it: one request, one whole answer or one of two errors.

httpx is its face: requests are httpx's, and any of httpx's asynchronous transports may stand below
`HttpClient`. The connections are its own, framed by h11. Rules: https, or plain http to loopback if allowed;
no redirects, cookies, proxies from the environment; addresses are checked before they are dialled; a request
without a whole answer is `NotSent` or `Unclear`, and nothing in between. It knows no tokens and no protocols:
those are `oauth` and `xrpc`. `judging` is where both of them meet the table of errors.

Each name is imported when it is first used: a client program sends requests with a library of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idiolectd.http.arrived import unpacked
    from idiolectd.http.challenges import Challenge, parse_challenges
    from idiolectd.http.configured import make_http
    from idiolectd.http.error_response import ErrorResponse, error_of, safe_text
    from idiolectd.http.guard import NetworkPolicy, check_address, check_url, origin
    from idiolectd.http.http_client import HttpClient
    from idiolectd.http.judging import (
        is_our_refusal,
        judge_failure,
        judge_not_sent,
        judge_probe,
        judge_refusal,
    )
    from idiolectd.http.origin_pools import OriginPools
    from idiolectd.http.response import CutOff, Response, retry_after, text_member
    from idiolectd.http.trust import Trust, tls_context

__all__ = [
    "Challenge",
    "CutOff",
    "ErrorResponse",
    "HttpClient",
    "NetworkPolicy",
    "OriginPools",
    "Response",
    "Trust",
    "check_address",
    "check_url",
    "error_of",
    "is_our_refusal",
    "judge_failure",
    "judge_not_sent",
    "judge_probe",
    "judge_refusal",
    "make_http",
    "origin",
    "parse_challenges",
    "retry_after",
    "safe_text",
    "text_member",
    "tls_context",
    "unpacked",
]

_HOMES = {
    "Challenge": "challenges",
    "CutOff": "response",
    "ErrorResponse": "error_response",
    "HttpClient": "http_client",
    "NetworkPolicy": "guard",
    "OriginPools": "origin_pools",
    "Response": "response",
    "Trust": "trust",
    "check_address": "guard",
    "check_url": "guard",
    "error_of": "error_response",
    "is_our_refusal": "judging",
    "judge_failure": "judging",
    "judge_not_sent": "judging",
    "judge_probe": "judging",
    "judge_refusal": "judging",
    "make_http": "configured",
    "origin": "guard",
    "parse_challenges": "challenges",
    "retry_after": "response",
    "safe_text": "error_response",
    "text_member": "response",
    "tls_context": "trust",
    "unpacked": "arrived",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
