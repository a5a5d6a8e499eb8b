"""Bugs in how a verdict is earned: sessions given up too soon, or tried for ever."""

from tests.torture.plants.plant import Edit, Plant

_VERDICT = "tests/refresh/test_verdict.py::"
_ROW = "tests/refresh/test_engine.py::TestRefusals::"
_DEAD = "tests/refresh/test_engine.py::TestDead::"
_REFUSALS = "tests/http/test_refusals.py::"

PLANTS = (
    Plant(
        "believed at first sight",
        6,
        "a database that is locked for a moment ends every session that is due",
        (Edit("policy", "is_confirmed", "policy.confirm == 0", "policy.confirm >= 0"),),
        (_VERDICT + "test_no_words_end_a_session_too_soon",),
        short=True,
    ),
    Plant(
        "three refusals in five seconds",
        6,
        "a fault of 20 s ends sessions that have an hour left",
        (Edit("policy", "is_confirmed", ">= policy.confirm", ">= 0"),),
        (
            _ROW + "test_force_does_not_hurry_the_verdict[trio]",
            _VERDICT + "test_no_words_end_a_session_too_soon",
        ),
    ),
    Plant(
        "refusals not spread",
        6,
        "a refused session is sent again and again within a minute",
        (Edit("policy", "refusal_delay", "max(1.0, retry_after or 0.0, delay)", "min(1.0, delay)"),),
        (_VERDICT + "test_confirmations_are_spread",),
    ),
    Plant(
        "the living access token not asked about",
        6,
        "a session whose PDS still takes its token is given up",
        (Edit("refresh", "decided", "AccessTokenStatus.ACCEPTED | None", "None"),),
        (_ROW + "test_a_session_whose_access_token_lives_is_not_dead[trio-AccessTokenStatus.ACCEPTED]",),
    ),
    Plant(
        "nobody can say, so it is dead",
        6,
        "a PDS that is away while its issuer refuses ends living sessions",
        (
            Edit(
                "refresh",
                "decided",
                "State.RELOGIN_REQUIRED if has_ended else State.RETRYING",
                "State.RELOGIN_REQUIRED",
            ),
        ),
        (_VERDICT + "test_a_living_access_token_keeps_a_session_alive",),
    ),
    Plant(
        "tried for ever",
        6,
        "a session that is over is never named, because nobody can say what its PDS takes",
        (
            Edit(
                "refresh",
                "decided",
                "State.RELOGIN_REQUIRED if has_ended else State.RETRYING",
                "State.RETRYING",
            ),
        ),
        (_VERDICT + "test_nobody_waits_for_ever",),
    ),
    Plant(
        "the row goes on over a server's restart",
        6,
        "a refusal of yesterday and two of today's start end a session",
        (
            Edit(
                "refresh", "judged", "state = state.unrefused()\nstate =", "state = state.answered()\nstate ="
            ),
        ),
        (_ROW + "test_a_server_in_trouble_ends_the_row[trio-between0-True]",),
    ),
    Plant(
        "a refused client counts against the session",
        6,
        "a server that can't fetch the client's document ends its sessions",
        (Edit("refresh", "counted", "anew=is_other", "anew=False"),),
        (_VERDICT + "test_client_and_session_have_rows_of_their_own",),
    ),
    Plant(
        "a refused client suspended at once",
        6,
        "an outage of 20 s costs an hour, and the token runs out",
        (Edit("refresh", "decided", "has_ended or age >= policy.CLIENT_PATIENCE", "age >= 0"),),
        (_VERDICT + "test_a_client_that_is_refused_for_long_needs_a_person",),
    ),
    Plant(
        "looked at again after the token's end",
        6,
        "a suspended session that was mended is noticed when clients hold a dead token",
        (Edit("policy", "slow_delay", "(1.0, min(pause, left / 4)) if left > 0 else pause", "(1.0, pause)"),),
        (_ROW + "test_the_next_attempt_is_never_beyond_the_end_of_a_living_token[trio]",),
    ),
    Plant(
        "only the reference's words count",
        6,
        "sessions of other servers are dead and never named so",
        (
            Edit(
                "outcome",
                "",
                'RefusalRule(Verdict.CLIENT, Cause.SCOPE_REFUSED, "invalid_scope"),\n'
                "*_ELSEWHERE,\n"
                "RefusalRule(Verdict.SESSION, Cause.REFUSED)",
                'RefusalRule(Verdict.CLIENT, Cause.SCOPE_REFUSED, "invalid_scope"),\n'
                "*_ELSEWHERE,\n"
                "RefusalRule(Verdict.RETRY, Cause.REFUSED)",
            ),
        ),
        (_REFUSALS + "test_what_an_application_refuses_is_heard",),
    ),
    Plant(
        "a 401 in plain text is nothing",
        6,
        "a session of millipds is tried for ever",
        (
            Edit(
                "http", "ErrorResponse.found", '_plain_text(response) if response.status == 401 else ""', '""'
            ),
        ),
        (_REFUSALS + "test_what_an_application_refuses_is_heard",),
    ),
    Plant(
        "an edge's JSON is a verdict",
        6,
        "a firewall's 403 ends sessions",
        (Edit("http", "", "_OF_A_TOKEN = (400, 401)", "_OF_A_TOKEN = (400, 401, 403, 404, 408)"),),
        (_REFUSALS + "test_what_says_nothing_of_the_session_is_no_refusal",),
    ),
    Plant(
        "a mistaken PDS believed at once",
        6,
        "a lost request and a locked database together end a session that was never rotated",
        (
            Edit(
                "refresh",
                "RefreshEngine._decide",
                "claimed, found",
                "claimed, replace(found, verdict=Verdict.REPLAYED)",
            ),
            Edit("refresh/engine", "", "Suspended,\nUnpersisted", "Suspended,\nUnpersisted,\nVerdict"),
        ),
        (
            "tests/refresh/test_engine.py::TestALostAnswer::test_a_pds_that_is_mistaken_for_a_moment_costs_nothing[trio]",
        ),
    ),
    Plant(
        "a revival that failed is a new life",
        6,
        "a dead session is tried for ever once somebody tried it on purpose",
        (Edit("refresh", "judged", "is State.RELOGIN_REQUIRED", "is State.QUARANTINED"),),
        (_DEAD + "test_if_that_fails_it_stays_dead[trio-answer1-ReloginRequired]",),
    ),
    Plant(
        "logout waits for the reference's words",
        6,
        "a session of another server can't be logged out",
        (
            Edit(
                "ports",
                "is_about_session",
                "answer.verdict is not Verdict.CLIENT",
                'answer.cause != "refused"',
            ),
        ),
        (
            "tests/xrpc/test_legacy.py::test_a_refusal_in_any_words_is_the_end",
            "tests/oauth/test_probe_revoke.py::test_a_refusal_in_any_words_is_the_end",
        ),
    ),
)
