"""Bugs in when something is done, and in who has to wait for whom."""

from tests.torture.plants.plant import Edit, Plant

_POLICY = "tests/core/test_policy.py::"
_ENGINE = "tests/refresh/test_engine.py::"
_GAPS = "tests/scheduler/test_corners.py::"
_SCHEDULER = "tests/scheduler/test_scheduler.py::"
_MEMORY = "tests/scheduler/test_memory.py::"
_APART = "tests/scheduler/test_apart.py::"
_UNSEEN = "tests/store/test_unseen.py::"
_CROWDS = "tests/scheduler/test_crowds.py::"

_RATES = "tests/scheduler/test_rates.py::"
_PLACES = "tests/scheduler/test_places.py::"
_FIRST = "tests/scheduler/test_first_start.py::"

PLANTS = (
    Plant(
        "a crowd of new sessions is looked at one by one",
        7,
        "after the first start on very many sessions tokens end while others are claimed",
        (Edit("scheduler", "Scheduler._is_adopting", "if not self._adopting:", "if self._adopting:"),),
        (_FIRST + "test_a_crowd_is_scheduled_without_a_claim_each",),
    ),
    Plant(
        "a login waits for the crowd",
        7,
        "while very many new sessions are planned a login is not noticed",
        (
            Edit(
                "scheduler",
                "Scheduler._is_adopting",
                "return self._adopting",
                "return bool([await anyio.sleep(0.01) for _ in iter(lambda: self._adopting, False)])",
            ),
        ),
        (_FIRST + "test_a_login_does_not_wait_for_the_crowd",),
    ),
    Plant(
        "a session that is listed already hides what happens to it",
        4,
        "a login that lands while no daemon runs waits for the old token's end",
        (
            Edit(
                "store/sqlite", "", "UPDATE OF seq ON idiolectd_changes", "UPDATE OF did ON idiolectd_changes"
            ),
        ),
        (_UNSEEN + "test_what_a_foreign_program_does_is_listed[trio-upsert]",),
    ),
    Plant(
        "what happened before the list of unseen changes was there is taken for seen",
        4,
        "after an upgrade nobody looks at the logins that landed before it",
        (Edit("store/sqlite", "StoreWriter._search", "if last is not None:", "if last is None:"),),
        (_UNSEEN + "test_what_an_older_program_left_is_searched_for_once[trio]",),
    ),
    Plant(
        "new sessions in the order of their rows",
        7,
        "after the first start on very many sessions those that end first wait",
        (Edit("store/sqlite", "", "ORDER BY CASE WHEN instr", "ORDER BY s.rowid, CASE WHEN instr"),),
        (_FIRST + "test_the_soonest_expiry_comes_first",),
    ),
    Plant(
        "a first state for whatever record is stored now",
        4,
        "a login that lands meanwhile is taken for the record that was read",
        (Edit("store/sqlite", "", "s.body_json = new.body_json)", "new.body_json = new.body_json)"),),
        (_FIRST + "test_what_changed_since_it_was_read_gets_no_state",),
    ),
    Plant(
        "a first state over one that is there",
        3,
        "a note that was written meanwhile is lost",
        (
            Edit(
                "store/sqlite",
                "",
                "body_json = new.body_json) ON CONFLICT (did) DO NOTHING",
                "body_json = new.body_json) ON CONFLICT (did) DO UPDATE SET state_json = excluded.state_json",
            ),
        ),
        (_FIRST + "test_what_changed_since_it_was_read_gets_no_state",),
    ),
    Plant(
        "backoff computed and thrown away",
        7,
        "a failing session is tried in a hot loop",
        (Edit("refresh", "Planner.retry", "(now + delay)", "(now + 0.0 * delay)"),),
        (_ENGINE + "test_a_retry_waits_and_keeps_the_session[trio]",),
        short=True,
    ),
    Plant(
        "no pause after a failure",
        7,
        "a failing session is tried in a hot loop",
        (Edit("policy", "retry_delay", "return max", "return 0.0 * max"),),
        (_POLICY + "test_a_retry_waits_as_long_as_it_should",),
    ),
    Plant(
        "pause longer than what is left",
        7,
        "the backoff sleeps through the token's end",
        (Edit("policy", "retry_delay", "(cap, left / 4)", "(cap, left * 4)"),),
        (_POLICY + "test_a_retry_waits_as_long_as_it_should",),
    ),
    Plant(
        "jitter drawn anew each time",
        7,
        "after every restart all is due at another time",
        (
            Edit("policy", "", "import hashlib", "import hashlib\nimport random"),
            Edit(
                "policy",
                "draw",
                'int.from_bytes(digest[:8], "big") / 2**64',
                "random.random() if digest else 0.0",
            ),
        ),
        (_POLICY + "test_due_is_the_same_everywhere",),
    ),
    Plant(
        "refreshed at once",
        7,
        "every rotation is a risk, and there are many more",
        (Edit("policy", "", "(0.70, 0.85)", "(0.10, 0.85)"),),
        (_POLICY + "test_due_lies_in_the_window",),
    ),
    Plant(
        "clients' requests pass the backoff",
        7,
        "the more clients ask, the more is sent to a server in trouble",
        (Edit("refresh", "standing", "State.RETRYING", "State.QUARANTINED"),),
        (_ENGINE + "test_the_backoff_holds_for_everybody_but_force[trio]",),
    ),
    Plant(
        "breaker dropped",
        7,
        "a server that is down gets every session's attempts",
        (Edit("scheduler", "IssuerQueue.failed", "(self._failures) <", "(self._failures) <="),),
        (_GAPS + "test_ten_sessions_of_a_dead_server_ask_it_seldom",),
    ),
    Plant(
        "lost answers do not back off",
        7,
        "a gateway in trouble is asked every half minute for ever",
        (Edit("refresh", "Planner.settle_or_retry", "and state.attempts <= 1:", ":"),),
        (_GAPS + "test_a_session_without_answers_is_sent_seldom",),
    ),
    Plant(
        "poisoned sessions first",
        7,
        "sessions that always trip the breaker starve the others of their issuer",
        (
            Edit(
                "scheduler",
                "AttemptFeedback._server_failed",
                ".server_failures += 1",
                ".server_failures += 0",
            ),
        ),
        (_GAPS + "test_sessions_that_are_always_refused_service_go_behind_the_others",),
    ),
    Plant(
        "one queue for all issuers",
        7,
        "a dead issuer delays everybody",
        (
            Edit("scheduler", "IssuerQueues.add", "(entry.server)", '(entry.server and "all")'),
            Edit("scheduler", "IssuerQueues.admission.admit", "server == home.name", "server"),
        ),
        (_GAPS + "test_an_issuer_that_hangs_delays_nobody_else",),
    ),
    Plant(
        "every place may be a hung server's",
        7,
        "servers that never answer, and that nobody has heard of, hold all places",
        (Edit("scheduler", "Places._has_room", "common -= common // 4", "common -= 0"),),
        (_PLACES + "test_no_number_of_hung_servers_keeps_a_healthy_one_waiting",),
        short=True,
    ),
    Plant(
        "a hung server keeps a common place",
        7,
        "servers that were quick and stop to answer hold all places until a deadline strikes",
        (Edit("scheduler", "Places._move_slow", ">= SLOW_AFTER", ">= 1e9"),),
        (_PLACES + "test_servers_that_stop_to_answer_hold_up_the_others_for_a_moment",),
    ),
    Plant(
        "places without an end",
        7,
        "a crowd opens more connections than there are descriptors",
        (Edit("scheduler", "Places._has_room", "len(self._common) + len(self._stuck)", "len(self._stuck)"),),
        (_PLACES + "test_never_more_in_flight_than_places",),
    ),
    Plant(
        "the rate follows nothing",
        7,
        "a million sessions of one server run out, one after the other",
        (
            Edit(
                "scheduler", "Pace._needed", "max(self.planned * _MARGIN, waiting / _DRAIN)", "0.0 * waiting"
            ),
        ),
        (_RATES + "test_the_rate_follows_what_is_due",),
    ),
    Plant(
        "a rate that is too low is nobody's business",
        11,
        "sessions run out although each attempt succeeds",
        (Edit("scheduler", "RateReports.compare", "needed > allowed and", "needed < 0 and"),),
        (_RATES + "test_sessions_that_need_more_than_is_allowed_are_named",),
    ),
    Plant(
        "Retry-After ignored by the queue",
        7,
        "a server that asks for a pause gets none",
        (
            Edit(
                "scheduler",
                "IssuerQueue.failed",
                "now + min(retry_after or 0.0, _LONGEST_RETRY_AFTER)",
                "now",
            ),
        ),
        (_SCHEDULER + "test_a_pause_that_several_sessions_hear_of_is_everybodys",),
    ),
    Plant(
        "Retry-After not read",
        7,
        "a server that asks for a pause gets none",
        (Edit("http", "judge_refusal", "(response, now)", "(response, now) and None"),),
        ("tests/oauth/test_send.py::test_what_an_answer_means[trio-429]",),
    ),
    Plant(
        "overdue by name",
        7,
        "after a long stop the tokens that end first wait",
        (Edit("scheduler", "IssuerQueue.push", "entry.expires_at", "entry.did"),),
        (_SCHEDULER + "test_overdue_sessions_go_by_their_end",),
    ),
    Plant(
        "clock set back, not noticed",
        7,
        "everything is refreshed an hour too late",
        (Edit("scheduler", "Scheduler._start_due", "if jumped < 0:", "if jumped == 0:"),),
        (_SCHEDULER + "test_a_clock_that_is_set_back_delays_nothing[3600.0]",),
    ),
    Plant(
        "clock behind at the start, not noticed",
        7,
        "a machine that boots in 1970 refreshes nothing",
        (Edit("scheduler", "Scheduler.run", "clock_behind > _JUMP", "clock_behind < 0"),),
        (_SCHEDULER + "test_a_clock_found_behind_at_the_start_delays_nothing",),
    ),
    Plant(
        "sleeps as long as it can",
        7,
        "a resumed machine notices hours later that its clock went on",
        (Edit("scheduler", "", "LONGEST_SLEEP = 30.0", "LONGEST_SLEEP = 1e9"),),
        (_GAPS + "test_a_resume_is_noticed_between_two_refills",),
    ),
    Plant(
        "quarantine at first sight",
        7,
        "a record caught in the middle of a write is called broken",
        (Edit("scheduler", "Scheduler._reconcile", "if again:", "if again is not None:"),),
        (_SCHEDULER + "test_a_record_caught_in_the_middle_of_a_write_is_no_fault",),
    ),
    Plant(
        "quarantine reported every time",
        7,
        "the log says the same for ever",
        (Edit("scheduler", "FaultReporter.record_is_broken", "!= error.reason", "!= did"),),
        (_GAPS + "test_a_broken_record_that_is_rewritten_is_reported_once",),
    ),
    Plant(
        "a broken record ends the look-out",
        7,
        "one bad record stops everything",
        (
            Edit(
                "scheduler",
                "Scheduler._reconcile",
                "self._due_queue.put_off(did, self._faults.record_is_broken(did, error))",
                "raise",
            ),
        ),
        (_SCHEDULER + "test_a_broken_record_is_reported_once_and_hurts_nobody",),
    ),
    Plant(
        "one session's exception is everybody's",
        7,
        "our own bug on one session ends the scheduler",
        (
            Edit(
                "scheduler",
                "AttemptFeedback.about_crash",
                "known.crashes += 1",
                "if error:\n    raise error\nknown.crashes += 1",
            ),
        ),
        (_GAPS + "test_one_sessions_exception_ends_nobody_elses_work",),
    ),
    Plant(
        "a store error drops the session",
        6,
        "a session whose record could not be read once is never refreshed again",
        (
            Edit(
                "scheduler",
                "Scheduler._refresh",
                "attempt = await self._engine().refresh(did, force=forced, admit=admit)",
                "try:\n"
                "    attempt = await self._engine().refresh(did, force=forced, admit=admit)\n"
                "except StoreError:\n"
                "    return await self._store.delete(did)",
            ),
        ),
        (_SCHEDULER + "test_a_store_that_fails_for_a_while_delays_only",),
    ),
    Plant(
        "line beyond the horizon told to nobody",
        7,
        "a daemon that is restarted on a folder refreshes nothing that is not due within minutes",
        (Edit("scheduler", "DueQueue.put", "self._store.schedule(did, entry)", ""),),
        ("tests/scheduler/test_restart.py",),
        short=True,
    ),
    Plant(
        "put-off look left behind by a clock",
        7,
        "a session that could not be looked at once runs out when the clock is set back",
        (
            Edit(
                "scheduler",
                "ClockSetBack.advance_next_attempts",
                "left += await self._unmoved(put_off, by)",
                "",
            ),
        ),
        (_SCHEDULER + "test_a_clock_that_is_set_back_while_the_disk_fails_delays_nothing",),
    ),
    Plant(
        "plan that can't be moved now forgotten",
        7,
        "a disk that fails when the clock is set back lets tokens run out",
        (Edit("scheduler", "ClockSetBack._move", "return False", "self._due_queue.put_off(did, _PAUSE)"),),
        (_SCHEDULER + "test_a_clock_that_is_set_back_while_the_disk_fails_delays_nothing",),
    ),
    Plant(
        "a new login inherits the last one's waits",
        7,
        "whoever logs in anew waits for the session before, and runs out",
        (Edit("scheduler", "SessionMemory.keep_only", "found.token != token", "token is None"),),
        (_MEMORY + "test_a_new_login_inherits_no_wait",),
        short=True,
    ),
    Plant(
        "who logged out is remembered",
        7,
        "the process grows with every account that ever was in trouble",
        (Edit("scheduler", "SessionMemory.keep_only", "None and found", "None and token and found"),),
        (_MEMORY + "test_what_is_remembered_belongs_to_a_token",),
    ),
    Plant(
        "servers are never forgotten",
        7,
        "the process grows with every server that was ever in trouble",
        (Edit("scheduler", "IssuerQueues.sweep", "queue.is_forgettable(now)", "now < 0"),),
        (_CROWDS + "test_a_server_in_trouble_is_forgotten_when_nobody_asks_for_it",),
    ),
    Plant(
        "where an account lives is asked before its refresh",
        7,
        "a directory that is mute makes everybody's tokens run out",
        (
            Edit(
                "refresh",
                "RefreshEngine._decide",
                "is_identity_urgent(state)",
                "is_identity_urgent(state) or state.identity_checked_at is None",
            ),
        ),
        (_APART + "test_a_mute_directory_makes_no_session_late",),
        short=True,
    ),
    Plant(
        "who was refused waits among the healthy",
        7,
        "suspended sessions that ask a mute directory hold their issuer's places",
        (
            Edit(
                "refresh", "server_to_ask", "if is_identity_urgent(state):\nreturn directory(session.did)", ""
            ),
        ),
        (_APART + "test_suspended_sessions_that_ask_a_mute_directory_first_delay_nobody",),
    ),
    Plant(
        "who lost an answer waits among the healthy",
        7,
        "a mute PDS holds its issuer's places",
        (
            Edit(
                "refresh",
                "server_to_ask",
                "return _server(session.pds_url)",
                "pass",
            ),
        ),
        (_APART + "test_who_has_an_answer_missing_waits_for_the_pds",),
    ),
    Plant(
        "a crowd hides who comes behind it",
        7,
        "after a restart on many overdue sessions of a dead issuer nobody else's are found",
        (Edit("scheduler", "DueQueue.refill", "(page) < _PAGE", "(page) <= _PAGE"),),
        (_CROWDS + "test_pages_of_the_index_are_read_to_the_horizon",),
        short=True,
    ),
    Plant(
        "the start waits for all looks",
        7,
        "a program that rewrites all records all the time keeps the daemon from starting",
        (Edit("scheduler", "Scheduler.run", "with anyio.move_on_after(_CATCH_UP)", "if True"),),
        (_CROWDS + "test_a_program_that_rewrites_everything_starves_nobody",),
    ),
    Plant(
        "queues without an end",
        7,
        "a dead issuer's crowd fills the memory",
        (Edit("scheduler", "IssuerQueues.add", "not (even_if_full or self._has_room(queue))", "False"),),
        (_CROWDS + "test_a_crowd_that_is_served_goes_on_until_its_end",),
    ),
    Plant(
        "an edge's page is each session's own trouble",
        7,
        "a firewall before the token endpoint gets every session's attempts",
        (Edit("http", "judge_refusal", "not refusal.is_spoken", "False"),),
        ("tests/servers/test_pace.py::test_an_edges_page_at_the_token_endpoint_is_the_issuers_trouble",),
    ),
    Plant(
        "no floor between two rotations",
        7,
        "a server whose tokens hardly live has us rotate all the time",
        (Edit("policy", "", "ROTATION_FLOOR = 5", "ROTATION_FLOOR = 0"),),
        ("tests/servers/test_pace.py::test_tokens_that_hardly_live_are_not_rotated_all_the_time[1.0]",),
    ),
    Plant(
        "our own refusal is the issuer's trouble",
        7,
        "some records that can't be used pause a healthy issuer",
        (Edit("http", "is_our_refusal", "in (Code.GUARD, Code.HEADER)", "== 0"),),
        ("tests/xrpc/test_legacy.py::test_a_token_that_cant_be_a_header_is_its_own_sessions_trouble",),
    ),
    Plant(
        "an issuer is only what is spelled so",
        7,
        "a slash behind the issuer's name costs the session",
        (Edit("oauth", "Discovery.issuer_of", 'found.path == "/" and', "not found.path and"),),
        ("tests/oauth/test_prepare.py::test_an_issuer_in_another_spelling_is_the_same",),
    ),
    Plant(
        "another host's limits do not count",
        7,
        "an issuer names a foreign token endpoint, and that host gets as much as it likes",
        (
            Edit(
                "scheduler", "IssuerQueues.admission.admit", "wait = queue.admit", "wait = 0.0 * queue.admit"
            ),
        ),
        (_APART + "test_an_issuer_that_names_another_hosts_endpoint_keeps_that_hosts_limits",),
    ),
    Plant(
        "what stands is taken for an answer",
        7,
        "a wait of yesterday closes a breaker, or opens it",
        (
            Edit(
                "refresh",
                "Recorder.result",
                "(claimed.session) if claimed.sent else None",
                "(claimed.session)",
            ),
        ),
        ("tests/refresh/test_asked.py::test_a_wait_that_stands_tells_of_nobody",),
    ),
    Plant(
        "one account's limit is everybody's",
        7,
        "an account that is told to wait for an hour silences its issuer's others",
        (
            Edit(
                "scheduler",
                "IssuerQueue.failed",
                "(self._failures) < _FAILURES_TO_TRIP",
                "(self._failures) < _FAILURES_TO_TRIP and not retry_after",
            ),
        ),
        (_SCHEDULER + "test_a_pause_that_one_session_hears_of_is_its_own",),
        short=True,
    ),
)
