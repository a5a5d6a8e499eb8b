"""The table of errors, row by row."""

import pytest

from idiolectd.outcome import Verdict, judge
from idiolectd.session import Kind

OAUTH = [
    ("use_dpop_nonce", "Authorization server requires nonce in DPoP proof", Verdict.NONCE),
    ("invalid_dpop_proof", "DPoP htu mismatch", Verdict.RETRY),
    ("invalid_grant", "private_key_jwt jti reused", Verdict.RETRY),
    ("invalid_grant", "Invalid request payload: Required at body.refresh_token", Verdict.RETRY),
    ("invalid_grant", "Client credentials missing: Required at body.client_id", Verdict.RETRY),
    ("invalid_grant", "Refresh token replayed", Verdict.FINAL),
    ("invalid_grant", "DPoP proof does not match the expected JKT", Verdict.FINAL),
    ("invalid_grant", "Token was not issued to this client", Verdict.FINAL),
    ("invalid_grant", "The session was initiated with a different key than the client's", Verdict.FINAL),
    ("invalid_grant", "Refresh token expired", Verdict.FINAL),
    ("invalid_grant", "Session expired", Verdict.FINAL),
    ("invalid_grant", "Invalid refresh token", Verdict.FINAL),
    ("invalid_grant", "Invalid refresh token: String must contain exactly 68 character(s)", Verdict.CONFIRM),
    ("invalid_grant", "", Verdict.CONFIRM),
    ("invalid_grant", "some words of another server", Verdict.CONFIRM),
    ("invalid_client", 'Validation of "client_assertion" failed', Verdict.SUSPEND),
    ("unauthorized_client", "", Verdict.SUSPEND),
    ("invalid_client_metadata", 'Unable to obtain client metadata for "https://x"', Verdict.RETRY),
    ("invalid_request", "anything", Verdict.RETRY),
    ("server_error", "Unknown error", Verdict.RETRY),
    ("slow_down", "anything", Verdict.RETRY),
]
LEGACY = [
    ("ExpiredToken", "Token has expired", Verdict.FINAL),
    ("ExpiredToken", "Token has been revoked", Verdict.FINAL),
    ("ExpiredToken", "other words", Verdict.CONFIRM),
    ("InvalidToken", "Token could not be verified", Verdict.FINAL),
    ("InvalidToken", "other words", Verdict.CONFIRM),
    ("AccountTakedown", "Account has been taken down", Verdict.SUSPEND),
    ("InvalidRequest", "Could not find user info for account: did:plc:abc", Verdict.FINAL),
    ("InvalidRequest", "A request body was provided when none was expected", Verdict.RETRY),
    ("RateLimitExceeded", "Rate Limit Exceeded", Verdict.RETRY),
    ("AuthMissing", "Authentication Required", Verdict.RETRY),
    ("InternalServerError", "Internal Server Error", Verdict.RETRY),
]
ROWS: list[tuple[Kind, str, str, Verdict]] = [("dpop", *row) for row in OAUTH]
ROWS += [("bearer", *row) for row in LEGACY]


@pytest.mark.parametrize(("kind", "error", "text", "verdict"), ROWS)
def test_each_row(kind: Kind, error: str, text: str, verdict: Verdict) -> None:
    """Each measured answer gets its verdict; unknown words are never final at first sight."""
    assert judge(kind, error, text).verdict is verdict


@pytest.mark.parametrize("kind", ["dpop", "bearer"])
def test_what_is_no_protocol_error_is_never_final(kind: Kind) -> None:
    """HTML, an empty body or a captive portal's page ends no session."""
    assert judge(kind, None, "<html>Session expired</html>").verdict is Verdict.RETRY


def test_one_protocols_words_mean_nothing_in_the_other() -> None:
    """A legacy code from an authorization server, or the reverse, is not final."""
    assert judge("dpop", "ExpiredToken", "Token has been revoked").verdict is Verdict.RETRY
    assert judge("bearer", "invalid_grant", "Session expired").verdict is Verdict.RETRY
