"""Bugs in what decides which of two records is the newer one."""

from tests.torture.plants.plant import Edit, Plant

_STATE = "tests/core/test_state.py::TestAdopt::"
_DISPLACED = "tests/refresh/test_displaced.py::"

PLANTS = (
    Plant(
        "old copies known by a list only",
        4,
        "a backup of more than 16 rotations before overwrites the newest tokens",
        (Edit("state", "reconcile", "order_of(stored, good)", "RecordOrder.NEWER"),),
        (
            _STATE + "test_an_old_copy_never_wins",
            _DISPLACED + "test_a_copy_from_a_backup_never_wins[trio-17]",
        ),
        short=True,
    ),
    Plant(
        "a commit gives way to an old copy",
        4,
        "tokens that arrived are dropped for a copy that somebody put back meanwhile",
        (
            Edit(
                "store", "_is_older", "or (order is RecordOrder.SEEMS_OLDER and same_key)", "and not same_key"
            ),
        ),
        ("tests/refresh/test_displaced.py::test_a_copy_put_back_during_a_refresh[trio]",),
    ),
    Plant(
        "an unproven token is sent",
        4,
        "an old copy that claims to be new is sent, and ends the session",
        (Edit("refresh", "RefreshEngine._decide", "state.displaced is not None", "state.displaced == ''"),),
        (_DISPLACED + "test_a_copy_with_a_time_of_its_own_is_found_out[trio]",),
    ),
    Plant(
        "a restored token is sent without asking",
        4,
        "a backup that is restored ends the session that lives elsewhere",
        (Edit("refresh", "RefreshEngine._decide", "claimed.state.is_restored(claimed.session)", "False"),),
        ("tests/refresh/test_restored.py::test_a_copy_that_was_used_since_is_named_and_not_sent[trio-1]",),
        short=True,
    ),
    Plant(
        "nobody compares a store with its witnesses",
        4,
        "a whole store that is put back by hand ends the sessions that live elsewhere",
        (Edit("parts", "look_whether_put_back", "newest > number", "newest < 0"),),
        ("tests/cli/test_put_back.py::test_a_store_put_back_ends_no_session[1-sqlite]",),
    ),
    Plant(
        "the record that lost is forgotten",
        4,
        "a rotation under a clock that was set back is lost",
        (Edit("state", "reconcile", "RecordOrder.SEEMS_OLDER:", "RecordOrder.UNKNOWN:"),),
        (_DISPLACED + "test_a_rotation_under_a_clock_that_was_set_back[trio]",),
    ),
    Plant(
        "our clock alone refuses a login",
        6,
        "after the clock was set back nobody can log in",
        (Edit("state", "reconcile_login", "RecordOrder.OLDER", "not RecordOrder.NEWER"),),
        (_STATE + "test_a_clock_that_was_set_back_keeps_nobody_from_logging_in",),
    ),
    Plant(
        "a newer store is opened",
        3,
        "an older program works on what it does not understand",
        (Edit("store", "check_format", "version > FORMAT", "version > FORMAT + 9"),),
        ("tests/upgrade/test_format.py::test_a_newer_store_is_left_as_it_is[trio-sqlite]",),
    ),
    Plant(
        "a newer state is started anew",
        3,
        "what a newer program knows of a session is lost",
        (
            Edit(
                "state",
                "RefreshState.from_json",
                "isinstance(version, int) and version > 1",
                "version is None",
            ),
        ),
        ("tests/upgrade/test_format.py::test_a_newer_state_is_not_started_anew[trio-sqlite]",),
    ),
    Plant(
        "another byte for the claim",
        1,
        "two releases beside each other send one token",
        (Edit("store", "_claim_byte", '(digest[:8], "big") >> 2', '(digest[:8], "big") >> 3'),),
        ("tests/upgrade/test_format.py::test_two_releases_exclude_each_other[trio-sqlite]",),
    ),
    Plant(
        "record as it was read counts",
        4,
        "a login that lands during a refresh is overwritten",
        (
            Edit(
                "store",
                "Stored.session",
                "known is not None and known.text == self.record",
                "known is not None",
            ),
        ),
        ("tests/store/test_sqlite.py::test_a_login_between_read_and_commit_wins[trio]",),
        short=True,
    ),
)
