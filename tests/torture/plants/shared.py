"""Bugs in what all sessions share: the one thread, the threads beside it, the locks."""

from tests.torture.plants.plant import Edit, Plant

_LINEAR = "tests/core/test_linear.py::test_four_times_the_text_takes_four_times_the_work"
_LOOP = "tests/daemon/test_loop.py::test_nothing_blocks_the_loop[files]"
_NAMES = "tests/http/test_names.py::"

PLANTS = (
    Plant(
        "server's text searched from each place",
        7,
        "a long error text stops the daemon for a minute",
        (
            Edit("http", "safe_text", "_cut(text, secrets)", "text"),
            Edit("http", "", "{8}(?:\\.[\\w-]*)*", "*\\.[\\w-]*(\\.[\\w-]*)?"),
        ),
        (f"{_LINEAR}[0]",),
    ),
    Plant(
        "log's masks search from each place",
        7,
        "a long text in an event stops the daemon for a minute",
        (Edit("log", "", "\\beyJ[\\w-]{8}(?:\\.[\\w-]*)", "eyJ[\\w-]*\\.[\\w-]"),),
        (f"{_LINEAR}[3]",),
    ),
    Plant(
        "store in everybody's threads",
        7,
        "a program whose threads all wait can't save tokens",
        (Edit("finish", "_in_thread", "args, limiter=limiter", "args"),),
        ("tests/store/test_threads.py::test_nobody_elses_threads_are_needed[trio-files]",),
    ),
    Plant(
        "name look-ups without bound",
        7,
        "a thread for every name of a mute DNS",
        (Edit("http", "", "_MOST = 64", "_MOST = 10_000"),),
        (_NAMES + "test_mute_names_keep_nobody_from_working[trio]",),
    ),
    Plant(
        "one bound for all names",
        7,
        "a healthy issuer's name stands behind the mute ones",
        (
            Edit(
                "http",
                "NameLookups._start",
                "kind = _Kind.NEW if known is None else _Kind.QUICK if known.quick else _Kind.SLOW\nif",
                "kind = _Kind.NEW\nif",
            ),
        ),
        (_NAMES + "test_mute_names_keep_nobody_from_working[trio]",),
    ),
    Plant(
        "slow look-ups keep their place",
        7,
        "names that are new wait behind the mute ones",
        (
            Edit(
                "http",
                "NameLookups._has_room",
                "_Kind.SLOW if now - look_up.since > _QUICK else look_up",
                "look_up",
            ),
        ),
        (_NAMES + "test_slow_names_make_room_for_new_ones[trio]",),
    ),
    Plant(
        "failed look-ups forgotten",
        7,
        "each attempt waits for the mute name server again",
        (Edit("http", "NameLookups.addresses", "known.until > now", "known.until > now + 60"),),
        (_NAMES + "test_a_failure_is_remembered_for_a_while[trio]",),
    ),
    Plant(
        "the end waits for look-ups",
        2,
        "a stop takes as long as the mute name server",
        (Edit("threads", "Errand.__init__", "name, daemon=True", "name"),),
        (_NAMES + "test_the_end_waits_for_no_look_up[trio]",),
    ),
    Plant(
        "daemon's note written in the loop",
        7,
        "a slow disk stops everything every ten seconds",
        (
            Edit(
                "daemon",
                "SignsOfLife.report",
                "await in_thread(instance.keep, presence)",
                "instance.keep(presence)",
            ),
        ),
        (_LOOP,),
    ),
    Plant(
        "locks taken in the loop",
        7,
        "a slow disk stops everything with each claim",
        (Edit("store", "LockWaiters._try", "await self._in_place.run(try_now)", "try_now()"),),
        (_LOOP,),
    ),
    Plant(
        "slow disk is waited for in the loop",
        7,
        "each claim and each read of one store stops everything for as long as its disk takes",
        (Edit("store", "InPlace.run", "ended - began > _SLOW", "False"),),
        ("tests/store/test_in_place.py::test_after_slow_work_threads_do_it[trio]",),
    ),
    Plant(
        "configuration read in the loop",
        7,
        "a key on a dead network file system stops everything, SIGTERM unheard",
        (
            Edit(
                "daemon",
                "_Daemon._reload_now",
                'await Errand(self._read_again, "idiolectd-reload").wait',
                "self._read_again",
            ),
        ),
        (_LOOP,),
    ),
    Plant(
        "tokens sent without a descriptor left",
        5,
        "what arrives can be saved nowhere, and dies with the process",
        (Edit("store", "ensure_room", "_spare_descriptors()", "_REFRESHES"),),
        ("tests/daemon/test_descriptors.py::test_no_descriptor_left",),
    ),
    Plant(
        "a cancelled handshake forgets its connection",
        7,
        "servers that are slow to shake hands use up all descriptors",
        (Edit("http", "_start_tls", "with anyio.CancelScope(shield=True):\nawait stream.aclose()", ""),),
        ("tests/http/test_connection.py::test_who_gives_up_leaves_no_connection_behind[asyncio-https]",),
    ),
    Plant(
        "interim answers read in a row",
        7,
        "thousands of them at once stop everybody",
        (Edit("http", "Connection.ask", "await anyio.lowlevel.checkpoint()", "pass"),),
        ("tests/http/test_connection.py::test_many_interim_answers_let_others_work[trio]",),
    ),
    Plant(
        "tiny parts read in a row",
        7,
        "an answer in parts of one byte stops everybody for a second",
        (Edit("http", "_read", "await anyio.lowlevel.checkpoint()", "pass"),),
        ("tests/http/test_client.py::test_an_answer_in_tiny_parts_lets_others_work[trio]",),
    ),
    Plant(
        "an answer that nobody has taken yet counts as none",
        7,
        "another name's look-up keeps a server's sessions from it for seconds",
        (Edit("http", "NameLookups._has_room", "look_up.errand.result()", "[]"),),
        (_NAMES + "test_an_answer_that_nobody_has_taken_yet_is_no_failure[trio]",),
    ),
    Plant(
        "tokens behind everybody's notes",
        7,
        "after a burst of failures a healthy session's tokens wait for all of them to be written",
        (Edit("store", "_Queue.take", "not first, self", "False, self"),),
        ("tests/store/test_queues.py::test_what_must_not_wait_goes_first[trio]",),
    ),
    Plant(
        "a long line is a trouble",
        7,
        "a store that works is called busy after ten seconds of work",
        (Edit("store", "_Queue.deadline", "(max(began, self.moved_at) if restarts else began)", "began"),),
        ("tests/store/test_queues.py::test_a_line_that_moves_is_no_trouble",),
    ),
    Plant(
        "note before the name is known",
        7,
        "each attempt at a mute name costs two durable writes",
        (Edit("xrpc", "LegacyRefresher.prepare", "await self._http.look_up(session.pds_url)", "pass"),),
        ("tests/xrpc/test_legacy.py::test_a_name_that_does_not_resolve_is_known_before_the_note[trio]",),
    ),
    Plant(
        "foreign lock waited for in the loop",
        7,
        "a program that keeps one database locked stops everything for five seconds",
        (Edit("store", "SqliteOAuthTokenStore._read_row", "did, 0.0", "did, BUSY_TIMEOUT"),),
        ("tests/store/test_sqlite.py::test_a_foreign_lock_stops_no_event_loop[trio]",),
    ),
)
