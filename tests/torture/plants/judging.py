"""Bugs in what an answer is taken to mean."""

from tests.torture.plants.plant import Edit, Plant

_SEND = "tests/oauth/test_send.py::test_what_an_answer_means"
_LEGACY = "tests/xrpc/test_legacy.py::test_what_an_answer_means"
_OUTCOME = "tests/core/test_outcome.py::"

PLANTS = (
    Plant(
        "every invalid_grant counts",
        6,
        "refusals that consume nothing are heard as refusals of the session",
        (
            Edit(
                "outcome",
                "",
                'RefusalRule(Verdict.RETRY, error="invalid_dpop_proof")',
                'RefusalRule(Verdict.SESSION, Cause.REFUSED, "invalid_grant"),\n'
                'RefusalRule(Verdict.RETRY, error="invalid_dpop_proof")',
            ),
        ),
        (_OUTCOME + "test_each_row",),
        short=True,
    ),
    Plant(
        "an error page is a verdict",
        6,
        "a captive portal's 403 ends sessions",
        (Edit("http", "ErrorResponse.speaks_of_a_token", "self.is_spoken", "True"),),
        ("tests/http/test_refusals.py::test_what_says_nothing_of_the_session_is_no_refusal",),
    ),
    Plant(
        "200 with HTML consumes nothing (OAuth)",
        6,
        "a token that may be rotated is sent again at once",
        (
            Edit(
                "oauth", "read_answer", "response.is_success and refusal.error is None", 'refusal.error == ""'
            ),
        ),
        (_SEND + "[trio-200 html]",),
    ),
    Plant(
        "200 with HTML consumes nothing (legacy)",
        6,
        "a token that may be rotated is sent again at once",
        (Edit("xrpc", "LegacyRefresher.send", "(response).error is None", '(response).error == ""'),),
        (_LEGACY,),
    ),
    Plant(
        "a gateway's 502 consumes nothing",
        6,
        "a token that may be rotated is sent again at once",
        (Edit("http", "", "(500, 503)", "(500, 502, 503, 504)"),),
        (_SEND + "[trio-502]",),
    ),
    Plant(
        "half an answer was not sent",
        6,
        "a token that may be rotated is sent again at once",
        (Edit("http", "_translated", "unsent or not progress.possible", "progress"),),
        ("tests/http/test_client.py::test_half_an_answer_is_unclear",),
    ),
    Plant(
        "a whole answer given up at the end",
        6,
        "a connection that breaks after the answer costs the session",
        (Edit("http", "HttpClient._exchange", "with suppress(*_FOREIGN):", ""),),
        ("tests/http/test_client.py::test_failing_to_close_does_not_take_the_answer_away",),
    ),
    Plant(
        "a takedown taken for a rotation",
        6,
        "any refusal of the access token ends the session",
        (
            Edit(
                "http",
                "judge_probe",
                "(response.status, error) in _TOKEN_IS_OVER or is_plain",
                "400 <= response.status < 500",
            ),
        ),
        ("tests/oauth/test_probe_revoke.py::test_only_two_answers_are_a_verdict",),
    ),
    Plant(
        "a revocation believed",
        4,
        "a logout that the server did not take passes for done",
        (Edit("revocation", "revoke_and_check", "is_about_session(answer)", "answer is not None"),),
        ("tests/oauth/test_probe_revoke.py::test_a_server_that_never_revokes_is_said_so[trio]",),
    ),
    Plant(
        "HTTP dates in local time",
        6,
        "a date without a zone makes proofs hours wrong wherever clocks are not UTC's",
        (
            Edit(
                "http", "http_date", "found.replace(tzinfo=found.tzinfo or UTC).timestamp", "found.timestamp"
            ),
        ),
        ("tests/times/test_spelling.py::test_http_dates_are_utc",),
    ),
    Plant(
        "the life of a token guessed",
        7,
        "clients hold expired tokens",
        (Edit("oauth", "_arrived", "sent_at + lifetime", "sent_at + 1e6 + lifetime"),),
        ("tests/oauth/test_send.py::test_a_refresh_brings_tokens_that_work[trio]",),
    ),
)
