"""What a server's ``RateLimit`` headers allow, and when they are believed."""

import math

from idiolectd.http.rate_limits import RateLimits

NOW = 1_800_000_000.0
SERVER = "https://pds.example"


def said(remaining: object, reset: object) -> dict[str, str]:
    return {"ratelimit-remaining": str(remaining), "ratelimit-reset": str(reset)}


def test_what_all_have_left_is_spread_until_the_reset() -> None:
    """Several answers in a row count down together: 2,996 are left for 300 s."""
    limits = RateLimits()
    for remaining in (2999, 2998, 2997):
        limits.learn(SERVER, said(remaining, NOW + 300), NOW)
        assert limits.allowed(SERVER, NOW) == math.inf
    limits.learn(SERVER, said(2996, NOW + 300), NOW)
    assert limits.allowed(SERVER, NOW) == 2996 / 300
    assert limits.allowed(SERVER, NOW + 200) == 2996 / 100
    assert limits.allowed(SERVER, NOW + 300) == math.inf
    limits.learn(SERVER, said(2999, NOW + 600), NOW + 300)
    assert limits.allowed(SERVER, NOW + 300) == 2999 / 300, "the same counter, begun anew"
    assert limits.allowed("https://other.example", NOW) == math.inf


def test_one_accounts_limit_slows_nobody() -> None:
    """Each account has its own count and reset; a repeated request of one counts down by itself."""
    limits = RateLimits()
    for account in range(20):
        limits.learn(SERVER, said(29, NOW + 300 + 7 * account), NOW)
        limits.learn(SERVER, said(28, NOW + 300 + 7 * account), NOW)
        assert limits.allowed(SERVER, NOW) == math.inf


def test_a_reset_in_seconds_from_now_and_what_is_no_number() -> None:
    """The IETF's draft counts from now; anything else says nothing."""
    limits = RateLimits()
    for remaining in (9, 8, 7, 0):
        limits.learn(SERVER, said(remaining, 60), NOW)
    assert limits.allowed(SERVER, NOW) == 0.0
    limits.learn(SERVER, said("many", 60), NOW)
    limits.learn(SERVER, {}, NOW)
    assert limits.allowed(SERVER, NOW) == 0.0
