"""Where things lie, and who may touch them."""

from tests.torture.plants.plant import Edit, Plant

_SPILL = "tests/refresh/test_spill.py::"
_PLACES = "tests/store/test_spill_places.py::"
_LOOKING = "tests/store/test_looking.py::"
_ROOT = "tests/cli/test_privileges.py::"
_ACCESS = "tests/store/test_access.py::"
_COMMANDS = "tests/cli/test_places.py::"
_FOLLOW = "tests/http/test_follow.py::"
_KEYS = "tests/oauth/test_client_keys.py::"

PLANTS = (
    Plant(
        "spill's place is not written down",
        5,
        "a process with another home sends the used token again",
        (
            Edit("store", "StoreSpill.make_known", "self._write_down(folder)\nself._chosen", "self._chosen"),
            Edit("store", "StoreSpill._put", "self._write_down(folder)", "pass"),
            Edit("store", "StoreSpill._put", "not self._is_written_down(folder)", "False"),
        ),
        (_SPILL + "test_a_command_with_another_environment_adopts_before_it_sends[trio]",),
        short=True,
    ),
    Plant(
        "spill's place is chosen when the disk is full",
        5,
        "what is written down too late can't be written at all",
        (Edit("store", "RoomCheck._look", "self._also()", "pass"),),
        (_PLACES + "test_the_place_is_written_down_before_anything_is_sent[trio-sqlite]",),
    ),
    Plant(
        "spill prefers a place that can't be recorded",
        5,
        "a process with another home sends the used token again",
        (
            Edit(
                "store",
                "StoreSpill._put",
                "key=lambda folder: not self._is_written_down(folder)",
                "key=self._is_written_down",
            ),
        ),
        (_PLACES + "test_a_place_that_can_not_be_recorded_is_the_last[trio]",),
    ),
    Plant(
        "spills of 0.2.0 forgotten",
        5,
        "an upgrade with a full disk loses what could not be saved",
        (Edit("store", "StoreSpill._places", "[*(folder.parent for folder in own), *self._former()]", "[]"),),
        (_PLACES + "test_what_0_2_0_left_is_found[trio-named]",),
    ),
    Plant(
        "two stores share a spill",
        4,
        "the same account's tokens in two stores overwrite each other",
        (Edit("store", "StoreSpill._folder_in", "self._own_name", "'one'"),),
        (_PLACES + "test_two_stores_share_a_place[trio]",),
    ),
    Plant(
        "spill on the full disk",
        5,
        "the second place is full together with the first",
        (Edit("store", "StoreSpill._choice", "_device(folder) == home", "0"),),
        (_PLACES + "test_another_file_system_is_preferred[trio]",),
    ),
    Plant(
        "unreadable spill taken for an empty one",
        5,
        "the used token is sent although its successor lies in a folder that can't be read now",
        (Edit("refresh", "SpilledTokens.find", "if needed:\nraise", ""),),
        (_SPILL + "test_a_spill_that_can_not_be_read_stops_nobody_else[trio]",),
    ),
    Plant(
        "unreadable spill stops everybody",
        7,
        "one folder's mode keeps every login from being refreshed",
        (Edit("refresh", "SpilledTokens.find", "if needed:\nraise", "raise"),),
        (_SPILL + "test_a_spill_that_can_not_be_read_stops_nobody_else[trio]",),
    ),
    Plant(
        "somebody else's folder gets our tokens",
        9,
        "who makes the folder first reads what is spilled there",
        (Edit("store", "make_private_folder", "!= os.geteuid()", "< 0"),),
        (_PLACES + "test_a_folder_of_somebody_else_is_not_used[trio]",),
    ),
    Plant(
        "reload swaps before it has read the keys",
        7,
        "a key file with a wrong mode ends the daemon at SIGHUP, and every session with it",
        (Edit("daemon", "_Daemon._reload_now", "parts.successor(reloaded.config, clients)", "parts"),),
        ("tests/daemon/test_daemon.py::test_client_keys_at_start_and_reload",),
    ),
    Plant(
        "daemon starts without its keys",
        7,
        "systemd starts it again for ever, or it runs and suspends what it should refresh",
        (Edit("daemon", "run", "require_readable_keys(config)", ""),),
        ("tests/daemon/test_daemon.py::test_client_keys_at_start_and_reload",),
    ),
    Plant(
        "reload takes another key under the same name",
        4,
        "every session that was started with the old key ends at its next refresh",
        (Edit("oauth", "ClientRegistry.check_successor", "new.thumbprint != key.thumbprint", "new is None"),),
        (_KEYS + "test_a_reload_takes_no_working_key_away",),
    ),
    Plant(
        "one key stands in for a broken one",
        4,
        "a session is sent with another key than its own, and ends",
        (
            Edit(
                "oauth",
                "ClientRegistry._with_key",
                "if key_id is None and",
                "keys = {k: v for k, v in keys.items() if isinstance(v, SigningKey)}\nif key_id is None and",
            ),
        ),
        (_KEYS + "test_a_broken_key_makes_no_other_the_only_one",),
    ),
    Plant(
        "a mended key waits for a restart",
        11,
        "the sessions of a key that was unreadable for a moment stay suspended until they expire",
        (Edit("oauth", "ClientRegistry._with_key", "key = keys[key_id] = key.read()", "pass"),),
        (_KEYS + "test_one_broken_key[{}]",),
    ),
    Plant(
        "a missing file makes everything the default",
        7,
        "a reload while an editor replaces the file forgets clients and keys",
        (Edit("config", "reload_config", "running.path is not None and new.path", "running"),),
        ("tests/config/test_load.py::test_a_file_that_is_gone_is_no_configuration",),
    ),
    Plant(
        "looking makes side files",
        10,
        "`status` on somebody's database leaves files of ours beside it",
        (Edit("store", "RowReader._opened", "self._file.stamp() if self._untouched else None", "None"),),
        (_LOOKING + "test_looking_changes_nothing[trio-wal]",),
    ),
    Plant(
        "looking does not see who writes meanwhile",
        8,
        "what lies in the side files is not read, and old tokens are shown",
        (
            Edit(
                "store",
                "RowReader._has_moved",
                "self._frozen_at is not None and self._file.stamp() != self._frozen_at",
                "False",
            ),
        ),
        (_LOOKING + "test_looking_sees_what_somebody_writes_meanwhile[trio]",),
    ),
    Plant(
        "every database is a store",
        10,
        "a database of another program is converted: WAL, 0600, our tables",
        (Edit("store", "DatabaseReader.check_is_ours", "if is_theirs:", "if is_theirs and not tables:"),),
        (_LOOKING + "test_another_programs_database_is_left_as_it_is[trio-other tables-False]",),
    ),
    Plant(
        "root follows the service's link",
        10,
        "whoever owns the service's folder has root open, group and write into a folder of root's",
        (Edit("cli", "look_at", "found.st_uid != 0 or", ""),),
        (_ROOT + "test_whose_place_it_is",),
        short=True,
    ),
    Plant(
        "root opens each name through its link",
        10,
        "whoever owns the service's folder has root become the owner of what his link names",
        (Edit("cli", "_Walk._opened", "os.O_PATH | os.O_NOFOLLOW", "os.O_PATH"),),
        (_ROOT + "test_whose_place_it_is",),
    ),
    Plant(
        "root opens what another user can replace",
        10,
        "a file of root's in the service's folder is a link a moment later",
        (Edit("cli", "look_at", "walk.replaceable_by - {owner.uid}", "()"),),
        (_ROOT + "test_what_somebody_else_can_replace_is_not_opened",),
    ),
    Plant(
        "root's environment goes along",
        10,
        "the owner's command looks into root's home, and for the spill in another place",
        (Edit("cli", "environment_of", "if name in _KEPT", "if name"),),
        (_ROOT + "test_the_environment_is_that_users",),
    ),
    Plant(
        "a former group goes on reading",
        9,
        "whoever was to read no more reads every token that was stored before",
        (Edit("store", "Folder.secure", "secure_file(self.root / name, access)", "pass"),),
        (_ACCESS + "test_a_group_that_is_taken_away_reads_nothing_more[trio-files]",),
    ),
    Plant(
        "the folder stays the former group's",
        9,
        "new names are seen, and new files get the group",
        (Edit("store", "Folder._secure_root", "durable.grant(fd, Access(0o700))", "pass"),),
        (_ACCESS + "test_a_group_that_is_taken_away_reads_nothing_more[trio-files]",),
    ),
    Plant(
        "logout revokes before it can write",
        5,
        "a session that has ended at its server is shown, read and refreshed as a living one",
        (Edit("cli", "log_out", "await parts.store.ensure_writable()", ""),),
        (_COMMANDS + "test_logout_writes_before_it_revokes",),
    ),
    Plant(
        "check looks at the folder's mode only",
        9,
        "records that a group can read are called closed",
        (Edit("cli", "_permissions", "group is None:", 'group == "":'),),
        (_COMMANDS + "test_check_names_what_a_former_group_can_read",),
    ),
    Plant(
        "the first authorities are believed for ever",
        11,
        "after years every server's new certificate is refused",
        (Edit("http", "Trust.context", "stamps != self._stamps", "not stamps"),),
        (_FOLLOW + "test_renewed_authorities_are_believed",),
    ),
    Plant(
        "half a file of authorities is taken",
        7,
        "while a package replaces it, nobody is believed",
        (Edit("http", "Trust.context", "(ConfigError, OSError)", "OSError"),),
        (_FOLLOW + "test_renewed_authorities_are_believed",),
    ),
    Plant(
        "a busy origin keeps its context",
        11,
        "the server that is asked most is the one that is refused",
        (
            Edit(
                "http", "OriginPools._is_good", "is_young and connection.context is self._context", "is_young"
            ),
        ),
        (_FOLLOW + "test_a_busy_origin_takes_the_new_context[trio]",),
    ),
    Plant(
        "the first name servers are asked for ever",
        11,
        "a laptop in another network resolves no handle until it is restarted",
        (Edit("identity", "DnsTxt.resolver", "or stamp != self._stamp:", ":"),),
        (_FOLLOW + "test_other_name_servers_are_asked",),
    ),
    Plant(
        "the group keeps its first number",
        9,
        "a group that is made anew reads nothing, and whoever got its number reads all",
        (
            Edit(
                "store",
                "RecordAccess.now",
                "time.monotonic() - self._asked_at > _ASK_AGAIN",
                "not self._group",
            ),
        ),
        (_ACCESS + "test_a_group_that_is_made_anew_is_followed",),
    ),
    Plant(
        "spill asks the failing disk first",
        5,
        "tokens that arrive while the disk does not even answer stat are spilled nowhere",
        (Edit("store", "_device", "except OSError", "except KeyError"),),
        ("tests/torture/test_io_errors.py::test_no_failing_file_operation_loses_tokens",),
    ),
)
