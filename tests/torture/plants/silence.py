"""Bugs by which a session would expire without a word, or be taken for logged out."""

from tests.torture.plants.plant import Edit, Plant

_CONTRACT = "tests/store/test_contract.py::"
_FOLDER = "tests/store/test_folder_watch.py::"
_REPLACED = "tests/store/test_replaced_database.py::"
_SILENCE = "tests/scheduler/test_silence.py::"

PLANTS = (
    Plant(
        "a paused session counts as well",
        11,
        "among a million sessions nobody sees the ones that wait for a person",
        (Edit("state/attention", "attention", "state.paused and", "not state.paused and"),),
        ("tests/store/test_index.py::test_who_needs_a_look[trio-state5-suspended]",),
    ),
    Plant(
        "the index keeps an old name",
        11,
        "status by handle shows somebody else's session",
        (Edit("store", "", "handle = excluded.handle, due_at", "handle = handle, due_at"),),
        ("tests/store/test_index.py::test_who_is_called_so[trio]",),
    ),
    Plant(
        "save wipes the line",
        11,
        "a client changes a handle, and nobody refreshes the session any more",
        (
            Edit("store", "_merged", "is_dead or state.next_attempt_at is not None", "False"),
            Edit("store", "_merged", "entry=None if rests", "line=None if True"),
        ),
        (_CONTRACT + "test_a_save_that_keeps_the_tokens_keeps_the_line[trio-sqlite]",),
        short=True,
    ),
    Plant(
        "save leaves the session without a line",
        11,
        "a line that an older version wiped is never made again",
        (Edit("store", "", "coalesce(due_at, excluded.due_at)", "due_at"),),
        (_CONTRACT + "test_a_save_leaves_a_line_where_there_was_none[trio-sqlite]",),
    ),
    Plant(
        "used token put back without a plan",
        11,
        "the session is undone and never planned",
        (Edit("refresh", "Recorder.reconcile", "or reconciled.state.next_attempt_at is None:", ":"),),
        ("tests/refresh/test_engine.py::test_a_used_token_that_is_put_back_before_the_plan_is_made[trio]",),
    ),
    Plant(
        "missing record is a logout at once",
        5,
        "new tokens are revoked because a foreign program replaces the record",
        (Edit("refresh", "Saver.save", "Committed.GONE", "None"),),
        (_SILENCE + "test_a_record_that_is_replaced_by_removing_it_first_is_no_logout",),
        short=True,
    ),
    Plant(
        "missing record forgotten at once",
        5,
        "a pause and the pins are lost because a foreign program replaces the record",
        (Edit("refresh", "Recorder.forget_if_away", "if left > 0:", "if left > STAYS_AWAY:"),),
        (_SILENCE + "test_a_removed_record_that_comes_back_keeps_what_is_known",),
    ),
    Plant(
        "commit forgets what has no record",
        5,
        "a state is lost because a foreign program replaces the record",
        (
            Edit(
                "store",
                "plan",
                "(), answer=outcome if isinstance(outcome, Committed) else",
                "((schema.DELETE_STATE, (did,)),), answer=",
            ),
        ),
        (_CONTRACT + "test_a_record_that_is_gone_is_forgotten_only_when_asked[trio-sqlite]",),
    ),
    Plant(
        "removed log goes unnoticed",
        5,
        "commits go into a file that nobody else can see",
        (Edit("store", "Files.lost_to", "is not None and", "== () and"),),
        (_REPLACED + "test_removed_side_files_take_nothing_along[trio-suffixes0]",),
        short=True,
    ),
    Plant(
        "removed log not carried over",
        5,
        "what only the removed log held is lost",
        (Edit("store", "DatabaseReader.keep", "is not None:", "is None:"),),
        (_REPLACED + "test_a_login_in_a_removed_log_is_not_lost[trio]",),
    ),
    Plant(
        "nothing carried over after a failed write",
        4,
        "a backup that is put back after a failure wins over the newer tokens",
        (Edit("store", "SqliteOAuthTokenStore._catch_up", "self._writer.was_open", "self._writer.is_open"),),
        (_REPLACED + "test_newer_tokens_win_after_a_failed_write_too[trio-True]",),
    ),
    Plant(
        "a second loss overwrites what the first has kept",
        4,
        "tokens that could not be carried over yet are given up for older ones",
        (Edit("store", "keep", "if _waits(copy)", "if False"),),
        (_REPLACED + "test_newer_tokens_outlive_a_second_loss[trio-True]",),
    ),
    Plant(
        "old log is written on without its index",
        4,
        "a program that holds the removed index writes over our commits",
        (Edit("store", "SqliteOAuthTokenStore._open_anew.renew", "self._file.begin_new_log()", "pass"),),
        (_REPLACED + "test_a_program_with_the_removed_index_writes_over_nothing[trio]",),
    ),
    Plant(
        "spent tokens of a backup stay",
        4,
        "a database that was put back sends used-up tokens",
        (
            Edit(
                "store",
                "_statements",
                "not in (RecordChange.NONE, RecordChange.SPENT)",
                "is not RecordChange.NONE",
            ),
        ),
        (_REPLACED + "test_a_database_put_back_from_a_backup_gets_the_newer_tokens[trio]",),
    ),
    Plant(
        "another database gets what it lacks",
        4,
        "accounts that somebody took out come back",
        (Edit("store", "_statements", "elif not is_same_database or", "elif"),),
        (_REPLACED + "test_a_database_put_back_from_a_backup_gets_the_newer_tokens[trio]",),
    ),
    Plant(
        "missing in another database is a logout",
        5,
        "new tokens are revoked because a database was exchanged",
        (Edit("store", "SqliteOAuthTokenStore.commit", "Committed.GONE", "Committed.SUPERSEDED"),),
        (_REPLACED + "test_tokens_for_a_session_that_another_database_lacks_are_kept[trio]",),
    ),
    Plant(
        "log stays as large as it ever was",
        11,
        "the disk fills up",
        (Edit("store", "", "8 * 1024 * 1024", "-1"),),
        (_REPLACED + "test_the_log_is_cut_back_after_it_grew[trio]",),
    ),
    Plant(
        "watch compares nothing",
        11,
        "a session that lost its line expires and is found by nobody",
        (Edit("scheduler", "OverdueWatch._compare", "did in unplanned", "did in unplanned[:0]"),),
        (_SILENCE + "test_a_session_that_lost_its_line_is_planned_again",),
        short=True,
    ),
    Plant(
        "watch says nothing",
        11,
        "a session that a hung client holds expires without a line in the log",
        (Edit("scheduler", "OverdueWatch._check", "!= expired.at:", "== expired.at:"),),
        (_SILENCE + "test_a_hung_claim_is_told_within_the_tokens_life",),
        short=True,
    ),
    Plant(
        "watch rests on the store",
        11,
        "what expires while the store can't answer is told by nobody",
        (
            Edit(
                "scheduler",
                "OverdueWatch._check",
                "except StoreError as error:\nfailure = str(error)\nlate",
                "except StoreError as error:\n    self._entries = []\n    trouble = str(error)\nlate",
            ),
        ),
        (_SILENCE + "test_what_expires_while_the_store_can_not_answer_is_told",),
    ),
    Plant(
        "outage told at every failure",
        11,
        "the log fills up with one trouble",
        (Edit("scheduler", "FaultReporter.store_failed", ">= self._report_at", ">= self._down_since"),),
        (_SILENCE + "test_what_expires_while_the_store_can_not_answer_is_told",),
    ),
    Plant(
        "unsaved tokens told at every try",
        11,
        "the log fills up with one trouble",
        (Edit("refresh", "Saver._hold_until_saved", "() >= report_at:", "() >= since:"),),
        ("tests/refresh/test_engine.py::test_a_disk_that_stays_full_is_told_at_growing_distance",),
    ),
    Plant(
        "quarantined for good",
        11,
        "a record that became readable again is never looked at",
        (
            Edit(
                "scheduler",
                "Scheduler._reconcile",
                "self._due_queue.put_off(did, self._faults.record_is_broken(did, error))",
                "self._faults.record_is_broken(did, error)",
            ),
        ),
        (_SILENCE + "test_a_quarantined_record_gets_another_look_by_itself",),
    ),
    Plant(
        "chmod is no change",
        11,
        "a record that was closed to us and opened again is never looked at",
        (
            Edit(
                "store",
                "FolderWatch._changed",
                "(name in regranted or not self._is_own(name))",
                "not self._is_own(name)",
            ),
        ),
        (_FOLDER + "test_a_record_that_is_closed_to_us_and_opened_again_is_named[trio-inotify]",),
    ),
    Plant(
        "watch looks at the first page only",
        11,
        "behind a crowd of overdue sessions others expire without a word",
        (
            Edit(
                "scheduler",
                "OverdueWatch._check",
                "self._after = self._entries[-1] if len(self._entries) == self._page else None",
                "",
            ),
        ),
        ("tests/scheduler/test_silence.py::test_a_crowd_of_overdue_sessions_hides_nobody",),
    ),
)
