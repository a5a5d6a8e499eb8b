"""The table of errors, row by row."""

import pytest

from idiolectd.outcome import Verdict, judge
from idiolectd.session import Kind
from tests.simulator.words import CLIENT, DEAD, Words

OAUTH = [
    ("use_dpop_nonce", "Authorization server requires nonce in DPoP proof", Verdict.NONCE),
    ("invalid_dpop_proof", "DPoP htu mismatch", Verdict.RETRY),
    ("dpop proof too old", "", Verdict.RETRY),
    ("invalid_grant", "private_key_jwt jti reused", Verdict.RETRY),
    ("invalid_grant", "Invalid request payload: Required at body.refresh_token", Verdict.RETRY),
    ("invalid_grant", "Client credentials missing: Required at body.client_id", Verdict.RETRY),
    ("invalid_grant", "Refresh token replayed", Verdict.REPLAYED),
    ("invalid_grant", "refresh token replayed", Verdict.REPLAYED),
    ("invalid_grant", "Refresh token reuse detected: family revoked", Verdict.REPLAYED),
    ("invalid_grant", "DPoP proof does not match the expected JKT", Verdict.SESSION),
    ("invalid_grant", "Token was not issued to this client", Verdict.SESSION),
    ("invalid_grant", "The session was initiated with a different key than the client's", Verdict.SESSION),
    ("invalid_grant", "Refresh token expired", Verdict.EXPIRED),
    ("invalid_grant", "Session expired", Verdict.EXPIRED),
    ("Session expired", "", Verdict.EXPIRED),
    ("invalid_grant", "Invalid refresh token", Verdict.SESSION),
    ("invalid_grant", "Invalid refresh token: String must contain exactly 68 character(s)", Verdict.SESSION),
    ("invalid_grant", "", Verdict.SESSION),
    ("invalid_grant", "some words of another server", Verdict.SESSION),
    ("invalid_client", 'Validation of "client_assertion" failed', Verdict.CLIENT),
    ("invalid_request", 'Missing "client_assertion"', Verdict.CLIENT),
    ("unauthorized_client", "", Verdict.CLIENT),
    ("invalid_client_metadata", 'Unable to obtain client metadata for "https://x"', Verdict.CLIENT),
    ("invalid_request", "anything", Verdict.SESSION),
    ("server_error", "Unknown error", Verdict.RETRY),
    ("slow_down", "anything", Verdict.RETRY),
    ("ExpiredToken", "Token has been revoked", Verdict.SESSION),
    (None, "revoked token", Verdict.SESSION),
]
LEGACY = [
    ("ExpiredToken", "Token has expired", Verdict.EXPIRED),
    ("ExpiredToken", "Token has been revoked", Verdict.SESSION),
    ("ExpiredToken", "other words", Verdict.EXPIRED),
    ("InvalidToken", "Token could not be verified", Verdict.SESSION),
    ("InvalidToken", "other words", Verdict.SESSION),
    ("AccountTakedown", "Account has been taken down", Verdict.CLIENT),
    ("InvalidRequest", "Could not find user info for account: did:plc:abc", Verdict.SESSION),
    ("InvalidRequest", "A request body was provided when none was expected", Verdict.RETRY),
    ("RateLimitExceeded", "Rate Limit Exceeded", Verdict.RETRY),
    ("AuthMissing", "Authentication Required", Verdict.RETRY),
    ("InternalServerError", "Internal Server Error", Verdict.RETRY),
    ("invalid_grant", "any words", Verdict.SESSION),
    (None, "revoked token", Verdict.SESSION),
]
ROWS: list[tuple[Kind, str | None, str, Verdict]] = [("dpop", *row) for row in OAUTH]
ROWS += [("bearer", *row) for row in LEGACY]


@pytest.mark.parametrize(("kind", "error", "text", "verdict"), ROWS)
def test_each_row(kind: Kind, error: str | None, text: str, verdict: Verdict) -> None:
    """Each measured answer gets its verdict; words that nobody knows refuse the session, and no more."""
    assert judge(kind, error, text).verdict is verdict


@pytest.mark.parametrize("words", [*DEAD, *CLIENT], ids=lambda words: words.name)
def test_the_words_of_others_have_their_causes(words: Words) -> None:
    """What a person reads as the cause: the table's own name, or `refused`."""
    body = {"message": words.body} if isinstance(words.body, str) else words.body
    description = body.get("error_description") or body.get("message") or ""
    for kind in words.kinds:
        assert judge(kind, body.get("error"), description).cause == words.cause
