"""Bugs in what happens when tokens can't be saved, or their answer was lost."""

from tests.torture.plants.plant import Edit, Plant

_ENGINE = "tests/refresh/test_engine.py::"
_SPILL = "tests/refresh/test_spill.py::"
_LOST = _ENGINE + "TestALostAnswer::"

PLANTS = (
    Plant(
        "unsaved tokens dropped",
        5,
        "a full disk ends sessions",
        (
            Edit(
                "refresh",
                "Saver._hold_until_saved",
                "not self._deadline.lasts(since, pause)",
                "since >= 0.0",
            ),
        ),
        (_ENGINE + "test_tokens_that_can_not_be_saved_are_held[trio]",),
        short=True,
    ),
    Plant(
        "spill not written",
        5,
        "tokens that can't be saved end with the process",
        (
            Edit(
                "refresh",
                "Saver._hold_until_saved",
                "was, place = place, place or await self._recorder.spill.put(spilled)",
                "was = place",
            ),
        ),
        (_SPILL + "test_tokens_survive_the_process_that_could_not_save_them[trio]",),
    ),
    Plant(
        "spill not adopted",
        5,
        "the next process does not find what the last one kept",
        (Edit("refresh", "SpilledTokens.find", "return found", "return None"),),
        (_SPILL + "test_tokens_survive_the_process_that_could_not_save_them[trio]",),
    ),
    Plant(
        "spill adopted whatever is stored",
        4,
        "an old spill replaces a newer login",
        (Edit("store", "StoreSpill._find", "and found.previous_token_hash == previous_token_hash:", ":"),),
        ("tests/refresh/test_spill.py::test_a_foreign_login_adopts_no_spill[trio]",),
    ),
    Plant(
        "no look at the room",
        5,
        "a token is sent although its successor can't be saved",
        (Edit("refresh", "RefreshEngine._send", "await self._store.ensure_room()", ""),),
        ("tests/refresh/test_before_sending.py::test_nothing_is_sent_without_room",),
    ),
    Plant(
        "a full disk has room",
        5,
        "a token is sent although its successor can't be saved",
        (Edit("store", "ensure_room", "if free < ROOM", "if free < 0"),),
        ("tests/store/test_room.py::test_a_full_file_system_has_no_room",),
    ),
    Plant(
        "settling time dropped",
        6,
        "a request that is still served is taken for lost",
        (Edit("refresh", "Planner.settle_or_retry", "state.note.at + self.policy.settle", "state.note.at"),),
        (_LOST + "test_nothing_happens_before_it_has_settled[trio]",),
        short=True,
    ),
    Plant(
        "settling time by the wall clock only",
        6,
        "a clock that is set forward makes a request that is still served pass for lost",
        (
            Edit(
                "scheduler",
                "Scheduler._refresh",
                "self._memory.of(did).not_before - anyio.current_time()",
                "0.0",
            ),
        ),
        ("tests/scheduler/test_corners.py::test_a_clock_set_forward_shortens_no_settling",),
    ),
    Plant(
        "settling time is no matter for force",
        6,
        "an impatient operator ends the session",
        (
            Edit(
                "refresh",
                "standing",
                "state.state is State.AMBIGUOUS",
                "state.state is State.AMBIGUOUS and not force",
            ),
        ),
        (_LOST + "test_nothing_happens_before_it_has_settled[trio]",),
    ),
    Plant(
        "nobody asked before a repetition",
        6,
        "a rotated token is sent again although the PDS could tell",
        (Edit("refresh", "RefreshEngine._decide", "if is_unclear or may_end", "if may_end"),),
        (_LOST + "test_a_refused_access_token_means_that_it_was_rotated[trio]",),
    ),
    Plant(
        "nobody asked before a revival",
        6,
        "a token that the PDS knows as rotated is sent again because a person asked",
        (
            Edit(
                "refresh",
                "RefreshEngine._decide",
                "state.is_unclear(session) and not refresher.has_grace",
                "(\n"
                "            state.is_unclear(session)\n"
                "            and not refresher.has_grace\n"
                "            and state.state is not State.RELOGIN_REQUIRED\n"
                "        )",
            ),
        ),
        (_ENGINE + "TestDead::test_a_rotated_token_is_not_sent_by_a_revival[trio]",),
    ),
    Plant(
        "an expired token's refusal believed",
        6,
        "a session that was never rotated is given up",
        (
            Edit(
                "refresh",
                "_outlives",
                "expires_at - max(probe.server_time, now) > _EXPIRY_DOUBT",
                "expires_at is not None",
            ),
        ),
        (_LOST + "test_an_expired_access_token_proves_nothing[trio]",),
    ),
    Plant(
        "dead session tried again",
        6,
        "sessions that the server has ended are sent for ever",
        (Edit("refresh", "standing", "State.RELOGIN_REQUIRED", "State.QUARANTINED"),),
        (_ENGINE + "TestDead::test_it_is_left_alone[trio]",),
    ),
    Plant(
        "spill removed before the tokens are saved",
        5,
        "a crash in that moment finds the tokens in neither place",
        (
            Edit(
                "refresh",
                "Saver._hold_until_saved",
                "committed = await",
                "if place is not None:\n    await self._recorder.spill.forget(did)\ncommitted = await",
            ),
        ),
        (_SPILL + "test_a_spill_stays_until_what_replaces_it_is_durable[trio]",),
    ),
    Plant(
        "spill removed before it is adopted",
        5,
        "a disk that fails once more ends the session",
        (
            Edit(
                "refresh",
                "Recorder._adopt_spill",
                "if await self",
                "await self.spill.forget(session.did)\nif await self",
            ),
        ),
        (_SPILL + "test_a_spill_stays_until_what_replaces_it_is_durable[trio]",),
    ),
    Plant(
        "spill removed before it is worthless",
        5,
        "what a foreign program brought and took back again has cost the only copy",
        (
            Edit(
                "refresh",
                "Recorder.reconcile",
                "put_back = tokens_of",
                "await self.spill.forget(claimed.session.did)\nput_back = tokens_of",
            ),
        ),
        (_SPILL + "test_a_spill_stays_until_the_change_that_makes_it_worthless_is_durable[trio]",),
    ),
    Plant(
        "held tokens raise no alarm",
        5,
        "nobody hears of the disk before the daemon ends",
        (
            Edit(
                "refresh",
                "Saver._hold_until_saved",
                "self._deadline.holding.add(did)",
                "",
            ),
        ),
        (_SPILL + "test_what_is_held_is_known_while_it_is_held[trio]",),
    ),
    Plant(
        "alarm of held tokens never ends",
        5,
        "a disk that works again stays an alarm, until nobody looks any more",
        (
            Edit(
                "refresh",
                "Saver._hold_until_saved",
                "self._deadline.holding.discard(did)",
                "",
            ),
        ),
        (_SPILL + "test_what_is_held_is_known_while_it_is_held[trio]",),
    ),
    Plant(
        "wrong clock's record believed",
        6,
        "a session that was never rotated is given up because this machine's clock was ahead",
        (
            Edit("refresh", "_outlives", "issued_at > now", "issued_at > now + 1e9"),
            Edit("refresh", "_outlives", "max(probe.server_time, now)", "probe.server_time"),
        ),
        (_LOST + "test_a_clock_that_was_ahead_proves_nothing",),
    ),
    Plant(
        "commit cut short blamed on somebody",
        3,
        "after a crash a person looks for a foreign program that is not there",
        (Edit("refresh", "Recorder.reconcile", "not stored.interrupted_commit", "stored"),),
        (_ENGINE + "test_a_commit_that_was_cut_short_is_finished_and_blamed_on_nobody",),
    ),
)
