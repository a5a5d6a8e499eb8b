"""Bugs in when something is done, and in who has to wait for whom."""

from tests.torture.plants.plant import Edit, Plant

_POLICY = "tests/core/test_policy.py::"
_ENGINE = "tests/refresh/test_engine.py::"
_GAPS = "tests/scheduler/test_corners.py::"
_SCHEDULER = "tests/scheduler/test_scheduler.py::"

PLANTS = (
    Plant(
        "backoff computed and thrown away",
        7,
        "a failing session is tried in a hot loop",
        (
            Edit(
                "refresh/schedule",
                "            delay = max(delay, policy.slow_delay(pause=policy.SLOW_RETRY, left=left))\n"
                "        return replace(state, next_attempt_at=now + delay)\n",
                "            delay = max(delay, policy.slow_delay(pause=policy.SLOW_RETRY, left=left))\n"
                "        return replace(state, next_attempt_at=now + 0.0 * delay)\n",
            ),
        ),
        (_ENGINE + "test_a_retry_waits_and_keeps_the_session[trio]",),
        short=True,
    ),
    Plant(
        "no pause after a failure",
        7,
        "a failing session is tried in a hot loop",
        (
            Edit(
                "policy",
                "    return max(1.0, retry_after or 0.0, luck * cap)\n",
                "    return 0.0 * max(1.0, retry_after or 0.0, luck * cap)\n",
            ),
        ),
        (_POLICY + "test_a_retry_waits_as_long_as_it_should",),
    ),
    Plant(
        "pause longer than what is left",
        7,
        "the backoff sleeps through the token's end",
        (Edit("policy", "        cap = min(cap, left / 4)\n", "        cap = min(cap, left * 4)\n"),),
        (_POLICY + "test_a_retry_waits_as_long_as_it_should",),
    ),
    Plant(
        "jitter drawn anew each time",
        7,
        "after every restart all is due at another time",
        (
            Edit("policy", "import hashlib\n", "import hashlib\nimport random\n"),
            Edit(
                "policy",
                '    return int.from_bytes(digest[:8], "big") / 2**64\n',
                "    return random.random() if digest else 0.0\n",
            ),
        ),
        (_POLICY + "test_due_is_the_same_everywhere",),
    ),
    Plant(
        "refreshed at once",
        7,
        "every rotation is a risk, and there are many more",
        (Edit("policy", "WINDOW = (0.70, 0.85)\n", "WINDOW = (0.10, 0.85)\n"),),
        (_POLICY + "test_due_lies_in_the_window",),
    ),
    Plant(
        "clients' requests pass the backoff",
        7,
        "the more clients ask, the more is sent to a server in trouble",
        (
            Edit(
                "refresh",
                "        if state.state is State.RETRYING:  #",
                "        if state.state is State.QUARANTINED:  #",
            ),
        ),
        (_ENGINE + "test_the_backoff_holds_for_everybody_but_force[trio]",),
    ),
    Plant(
        "breaker dropped",
        7,
        "a server that is down gets every session's attempts",
        (
            Edit(
                "scheduler",
                "        if len(self._wishes) < _TRIP:\n",
                "        if len(self._wishes) <= _TRIP:\n",
            ),
        ),
        (_GAPS + "test_ten_sessions_of_a_dead_server_ask_it_seldom",),
    ),
    Plant(
        "lost answers do not back off",
        7,
        "a gateway in trouble is asked every half minute for ever",
        (Edit("refresh", "settled_at > now and state.attempts <= 1:", "settled_at > now:"),),
        (_GAPS + "test_a_session_without_answers_is_sent_seldom",),
    ),
    Plant(
        "poisoned sessions first",
        7,
        "sessions that always trip the breaker starve the others of their issuer",
        (Edit("scheduler", ".strikes += 1\n", ".strikes += 0\n"),),
        (_GAPS + "test_sessions_without_answers_go_behind_the_others",),
    ),
    Plant(
        "one lane for all issuers",
        7,
        "a dead issuer delays everybody",
        (
            Edit(
                "scheduler",
                "        lane = self.lane(due.lane)\n",
                '        lane = self.lane(due.lane and "all")\n',
            ),
        ),
        (_GAPS + "test_an_issuer_that_hangs_delays_nobody_else",),
    ),
    Plant(
        "Retry-After ignored by the lane",
        7,
        "a server that asks for a pause gets none",
        (
            Edit(
                "scheduler",
                "now + min(retry_after or 0.0, _LONGEST_WISH)\n",
                "now\n",
            ),
        ),
        (_SCHEDULER + "test_a_pause_that_several_sessions_hear_of_is_everybodys",),
    ),
    Plant(
        "Retry-After not read",
        7,
        "a server that asks for a pause gets none",
        (
            Edit(
                "http",
                "    pause = retry_after(response, now)\n",
                "    pause = retry_after(response, now) and None\n",
            ),
        ),
        ("tests/oauth/test_send.py::test_what_an_answer_means[trio-429]",),
    ),
    Plant(
        "overdue by name",
        7,
        "after a long stop the tokens that end first wait",
        (
            Edit(
                "scheduler",
                "(strikes, due.expires_at, due.did, due))\n",
                "(strikes, due.did, due.did, due))\n",
            ),
        ),
        (_SCHEDULER + "test_overdue_sessions_go_by_their_end",),
    ),
    Plant(
        "clock set back, not noticed",
        7,
        "everything is refreshed an hour too late",
        (Edit("scheduler", "                if jumped < 0:\n", "                if jumped == 0:\n"),),
        (_SCHEDULER + "test_a_clock_that_is_set_back_delays_nothing[3600.0]",),
    ),
    Plant(
        "clock behind at the start, not noticed",
        7,
        "a machine that boots in 1970 refreshes nothing",
        (Edit("scheduler", "            if behind > _JUMP:\n", "            if behind < 0:\n"),),
        (_SCHEDULER + "test_a_clock_found_behind_at_the_start_delays_nothing",),
    ),
    Plant(
        "sleeps as long as it can",
        7,
        "a resumed machine notices hours later that its clock went on",
        (Edit("scheduler", "LONGEST_SLEEP = 30.0\n", "LONGEST_SLEEP = 1e9\n"),),
        (_GAPS + "test_a_resume_is_noticed_between_two_refills",),
    ),
    Plant(
        "quarantine at first sight",
        7,
        "a record caught in the middle of a write is called broken",
        (Edit("scheduler", "            if again:\n", "            if again is not None:\n"),),
        (_SCHEDULER + "test_a_record_caught_in_the_middle_of_a_write_is_no_fault",),
    ),
    Plant(
        "quarantine reported every time",
        7,
        "the log says the same for ever",
        (
            Edit(
                "scheduler",
                "        if self._quarantined.get(did) != error.reason:\n",
                "        if self._quarantined.get(did) != did:\n",
            ),
        ),
        (_GAPS + "test_a_broken_record_that_is_rewritten_is_reported_once",),
    ),
    Plant(
        "a broken record ends the look-out",
        7,
        "one bad record stops everything",
        (
            Edit(
                "scheduler",
                "        except RecordError as error:\n            if again:\n                self._troubles.record_is_broken(did, error)\n",
                "        except RecordError as error:\n            if again:\n                raise\n",
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
                "        known.crashes += 1\n",
                "        if error:\n            raise error\n        known.crashes += 1\n",
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
                "                attempt = await self._engine.refresh(did, force=forced, admit=admit)\n",
                "                try:\n"
                "                    attempt = await self._engine.refresh(did, force=forced, admit=admit)\n"
                "                except StoreError:\n"
                "                    return await self._store.delete(did)\n",
            ),
        ),
        (_SCHEDULER + "test_a_store_that_fails_for_a_while_delays_only",),
    ),
    Plant(
        "line beyond the horizon told to nobody",
        7,
        "a daemon that is restarted on a folder refreshes nothing that is not due within minutes",
        (Edit("scheduler/plan", "        self._store.schedule(did, due)\n", ""),),
        ("tests/scheduler/test_restart.py",),
        short=True,
    ),
    Plant(
        "put-off look left behind by a clock",
        7,
        "a session that could not be looked at once runs out when the clock is set back",
        (Edit("scheduler/set_back", "        left += await self._unmoved(put_off, by)\n", ""),),
        (_SCHEDULER + "test_a_clock_that_is_set_back_while_the_disk_fails_delays_nothing",),
    ),
    Plant(
        "plan that can't be moved now forgotten",
        7,
        "a disk that fails when the clock is set back lets tokens run out",
        (
            Edit(
                "scheduler/set_back",
                "        except StoreError:\n            return False\n",
                "        except StoreError:\n            self._plan.put_off(did, _PAUSE)\n",
            ),
        ),
        (_SCHEDULER + "test_a_clock_that_is_set_back_while_the_disk_fails_delays_nothing",),
    ),
)
