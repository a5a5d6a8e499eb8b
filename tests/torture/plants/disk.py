"""Bugs in what reaches the disk, and in what is read from it."""

from tests.torture.plants.plant import Edit, Plant

_DURABLE = "tests/store/test_durable.py::"
_CONTRACT = "tests/store/test_contract.py::"
_FOLDER = "tests/store/test_folder.py::"
_SQLITE = "tests/store/test_sqlite.py::"
_ORDER = (_DURABLE + "test_content_is_synced_before_the_rename_and_the_folder_after",)

PLANTS = (
    Plant(
        "file not synced",
        3,
        "a rename may overtake its content at a power cut",
        (Edit("store", "NewFile.sync", "os.fsync(self._fd)", ""),),
        _ORDER,
        short=True,
    ),
    Plant(
        "folder not synced",
        3,
        "a power cut brings the old file back",
        (Edit("store", "run_together", "_failure(sync_folder, folder)", "None"),),
        _ORDER,
    ),
    Plant(
        "database synced now and then",
        3,
        "a power cut rolls commits back",
        (Edit("store", "StoreWriter._set_up", "synchronous = FULL", "synchronous = NORMAL"),),
        (_DURABLE + "test_a_transaction_is_synced_when_it_is_committed",),
    ),
    Plant(
        "file rewritten in place",
        8,
        "a reader finds half a record",
        (
            Edit(
                "store",
                "NewFile.take_place",
                "self._temporary.rename(self.path)",
                "with self.path.open('wb') as target:\n"
                "    for byte in self._data:\n"
                "        target.write(bytes([byte]))\n"
                "        target.flush()\n"
                "self._temporary.unlink()",
            ),
        ),
        (_FOLDER + "test_readers_see_whole_records_while_another_process_rewrites[trio-files]",),
    ),
    Plant(
        "record written before its state",
        3,
        "a crash between the two destroys the only copy of the new tokens",
        (
            Edit(
                "store",
                "FolderWriter.commit",
                "_replace((state_file, record_file),",
                "_replace((record_file, state_file),",
            ),
        ),
        (_FOLDER + "test_the_order_of_record_and_state[trio]",),
    ),
    Plant(
        "comparing and swapping dropped",
        4,
        "a refresh overwrites a login that landed meanwhile",
        (
            Edit(
                "store",
                "merge_commit",
                "if stored.refresh_jwt not in ours and not _is_older(stored, read, state):\n"
                "return Committed.SUPERSEDED\n"
                "if",
                "if",
            ),
            Edit(
                "store",
                "merge_commit",
                "ours = {read.refresh_jwt} | ({tokens.refresh_jwt} if tokens else set())",
                "",
            ),
        ),
        (_CONTRACT + "test_a_commit_after_a_login_writes_nothing",),
        short=True,
    ),
    Plant(
        "logout undone",
        4,
        "a refresh recreates the record that a logout removed",
        (
            Edit(
                "store",
                "merge_commit",
                "if stored is None:\nreturn Committed.GONE",
                "stored = stored or read",
            ),
        ),
        (_CONTRACT + "test_a_commit_to_a_deleted_session_writes_nothing",),
    ),
    Plant(
        "whole record written",
        4,
        "what others changed meanwhile is lost",
        (Edit("store", "merge_commit", "base.with_tokens", "read.with_tokens"),),
        (_CONTRACT + "test_a_field_that_changed_meanwhile_is_kept",),
    ),
    Plant(
        "spent token saved",
        4,
        "a foreign save of a used token replaces the newer one",
        (Edit("state", "reconcile", "good.refresh_token_hash not in state.spent", "good.refresh_jwt == ''"),),
        (_CONTRACT + "test_a_spent_token_never_replaces_a_newer_one",),
    ),
    Plant(
        "lost disk is an empty store",
        6,
        "an unmounted folder reads as: no session",
        (Edit("store", "Folder.check_identity", "!= self._identity", "== (0, 0)"),),
        (_FOLDER + "test_a_folder_that_is_gone_is_no_empty_store[trio]",),
    ),
    Plant(
        "lost database is an empty store",
        6,
        "a replaced file reads as: no session",
        (Edit("store", "RowReader._opened", "self._file.check()", ""),),
        (_SQLITE + "test_a_database_that_was_replaced_is_no_empty_one[trio]",),
    ),
    Plant(
        "unreadable record is missing",
        6,
        "a store error reads as: no session",
        (Edit("store", "RecordFile.readable", "if self.damage is not None:\nraise self.damage", ""),),
        (_CONTRACT + "test_an_unreadable_record_is_an_error_of_its_own",),
        short=True,
    ),
    Plant(
        "left-over journal is an error",
        6,
        "a database whose writer was killed can't be opened any more",
        (
            Edit(
                "store",
                "SqliteOAuthTokenStore._start",
                "if not isinstance(cause, sqlite3.Error) or _code(cause) not in",
                "if",
            ),
        ),
        (_SQLITE + "test_a_journal_left_by_a_writer_that_died_is_rolled_back[trio]",),
    ),
    Plant(
        "file open to all",
        9,
        "other users read the tokens",
        (Edit("store", "Access", "mode: int = 0o600", "mode: int = 0o644"),),
        (_DURABLE + "test_the_umask_has_no_say[0]",),
    ),
    Plant(
        "two DIDs share a file",
        7,
        "saving one account destroys another's session",
        (Edit("did", "file_name", "(':', '~3A').replace('_', '~5F')", "(':', '_')"),),
        (_CONTRACT + "test_dids_that_upstream_confuses_are_two_sessions",),
    ),
    Plant(
        "triggers that read JSON",
        7,
        "a foreign program's own save fails because of us",
        (Edit("store", "", "{row}.did", "json_extract({row}.body_json, '$.did')"),),
        (_SQLITE + "test_foreign_writers_never_fail_and_are_noticed",),
    ),
    Plant(
        "doubtful state taken for durable",
        3,
        "a note whose folder was not synced is never written again, and a power cut takes it",
        (
            Edit("store", "FolderWriter._replace", "self._doubtful.add(new.path)", ""),
            Edit("store", "FolderWriter._replace", "self._doubtful.discard(new.path)", ""),
        ),
        (_DURABLE + "test_a_state_whose_folder_was_not_synced_is_written_again",),
    ),
    Plant(
        "put-back record taken for a commit cut short",
        4,
        "nobody is told of the foreign program that puts used tokens back",
        (Edit("store", "is_older", "().st_ctime_ns <", "().st_ctime_ns !="),),
        (_FOLDER + "test_a_used_token_that_was_put_back_is_no_commit_cut_short[trio]",),
    ),
    Plant(
        "folder's first answer leaves out what has a line",
        4,
        "what a foreign program wrote while nobody looked out is noticed when it is due",
        (
            Edit(
                "store",
                "FolderIndex.looks",
                "if listed.get(each.name) == each.files",
                "if each.name in listed",
            ),
        ),
        (_CONTRACT + "test_a_foreign_write_while_nobody_looked_out_is_named_first",),
    ),
)
