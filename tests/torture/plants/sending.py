"""Bugs on the way of one session: claim, note, send, persist, judge."""

from tests.torture.plants.plant import Edit, Plant

_ENGINE = "tests/refresh/test_engine.py::"

PLANTS = (
    Plant(
        "claim not taken",
        1,
        "two programs send one token",
        (
            Edit(
                "refresh",
                "RefreshEngine.refresh",
                "async with self._store.claim(did, patience=patience)",
                "if did",
            ),
        ),
        (_ENGINE + "test_no_claim_no_refresh[trio]",),
        short=True,
    ),
    Plant(
        "not read again under the claim",
        1,
        "whoever waited decides by what has changed",
        (
            Edit(
                "refresh",
                "RefreshEngine.refresh",
                "first_seen = (await self._store.read(did))",
                "stored = await self._store.read(did)\nfirst_seen = stored",
            ),
            Edit(
                "refresh", "RefreshEngine.refresh", "stored = await self._store.read(did)\nclaimed", "claimed"
            ),
        ),
        (
            "tests/refresh/test_needed.py::test_it_saves_what_it_got_and_asks_once_for_many[trio]",
            "tests/refresh/test_before_sending.py::test_whoever_waited_gets_what_the_other_brought",
        ),
    ),
    Plant(
        "read again and not compared",
        1,
        "whoever forces while another refreshes rotates once more",
        (Edit("refresh", "RefreshEngine.refresh", "!= first_seen.refresh_token_hash", "== ''"),),
        (_ENGINE + "test_whoever_waited_finds_it_done[trio]",),
    ),
    Plant(
        "shield dropped from the refresh",
        2,
        "a shutdown throws the new tokens away",
        (
            Edit(
                "refresh",
                "RefreshEngine.refresh",
                "finish(self._send, decided, refresher, prepared)",
                "self._send(decided, refresher, prepared)",
            ),
        ),
        (_ENGINE + "test_nothing_cancels_it_past_the_note[trio]",),
        short=True,
    ),
    Plant(
        "shield dropped from finish",
        2,
        "a cancelled task leaves work half done",
        (
            Edit(
                "finish",
                "finish",
                "with anyio.CancelScope(shield=True):",
                "if True:\n    return await work(*args)",
            ),
        ),
        ("tests/core/test_finish.py::test_a_cancelled_scope_waits_for_the_work",),
    ),
    Plant(
        "native cancellation not shielded",
        2,
        "asyncio's own cancel and time-outs go through the shield",
        (Edit("finish", "finish", "_as_task(work(*args))", "work(*args)"),),
        ("tests/core/test_finish.py::test_a_native_cancellation_waits_for_the_work",),
    ),
    Plant(
        "asyncio.run knows the work",
        2,
        "a second Ctrl-C throws the new tokens away",
        (Edit("finish", "_as_task", "_unregister_task", "_register_task"),),
        ("tests/core/test_finish.py::test_two_ctrl_c_in_asyncio_run_wait_for_the_work",),
    ),
    Plant(
        "KeyboardInterrupt goes through in trio",
        2,
        "one Ctrl-C throws the new tokens away",
        (
            Edit(
                "finish",
                "_as_system_task",
                "_work_task.get() is trio.lowlevel.current_task()",
                "trio.lowlevel.current_task() is not None",
            ),
        ),
        ("tests/core/test_finish.py::test_ctrl_c_in_trio_waits_for_the_work",),
    ),
    Plant(
        "second signal ends a command at once",
        2,
        "whoever loses patience loses the session",
        (
            Edit(
                "cli",
                "_interrupt",
                "running.cancel()",
                "running.cancel()\nsignal.signal(signal.SIGINT, signal.default_int_handler)",
            ),
        ),
        ("tests/cli/test_running.py::test_a_signal_waits_for_what_can_not_be_cancelled",),
    ),
    Plant(
        "note not written",
        3,
        "after a crash nobody knows that the token was sent",
        (
            Edit(
                "refresh",
                "RefreshEngine._send",
                "await self._recorder.note(claimed, noted)",
                "Committed.DONE if noted else Committed.GONE",
            ),
        ),
        (_ENGINE + "test_the_note_is_durable_before_the_first_byte[trio]",),
        short=True,
    ),
    Plant(
        "tokens judged before they are kept",
        3,
        "tokens that do not fit are thrown away, and the session with them",
        (Edit("state", "RefreshState.withholding", "withheld=after.to_json(),", ""),),
        (_ENGINE + "test_tokens_of_somebody_else_are_kept_and_not_published[trio]",),
    ),
    Plant(
        "mismatch published",
        3,
        "another account's tokens in this one's record",
        (Edit("refresh", "RefreshEngine._persist", "mismatch=None, unconfirmed", "unconfirmed"),),
        (_ENGINE + "test_tokens_of_somebody_else_are_kept_and_not_published[trio]",),
    ),
    Plant(
        "spent token sent again",
        4,
        "a foreign program's old copy ends the session",
        (
            Edit(
                "refresh", "contradiction", "session.refresh_token_hash in state.spent", "state.spent == 'x'"
            ),
            Edit("state", "reconcile", "session, state", "stored, state"),
        ),
        (_ENGINE + "test_a_spent_token_put_back_is_undone[trio]",),
    ),
    Plant(
        "used token of a mismatch sent again",
        4,
        "a token that is known to be used up goes out",
        (
            Edit(
                "refresh", "contradiction", "session.refresh_token_hash in state.spent", "state.spent == 'x'"
            ),
        ),
        (_ENGINE + "test_tokens_of_somebody_else_are_kept_and_not_published[trio]",),
    ),
    Plant(
        "pins not put back",
        4,
        "a foreign save unpins issuer and client",
        (
            Edit(
                "state",
                "Pins.restored_to",
                "replace(session, **dropped)",
                "session if dropped is not None else session",
            ),
        ),
        (_ENGINE + "test_dropped_pins_are_restored[trio]",),
    ),
    Plant(
        "tokens outlive a logout",
        4,
        "whoever logged out during a refresh is still logged in at the server",
        (
            Edit(
                "refresh",
                "RefreshEngine._save",
                "await self._refreshers[spilled.session.kind].revoke(spilled.session)",
                "",
            ),
        ),
        (_ENGINE + "test_a_logout_during_a_refresh_wins[trio]",),
    ),
    Plant(
        "logout forgets the predecessor",
        4,
        "a legacy session lives on by its token of before",
        (Edit("cli", "_revoke", "previous_refresh_token is not None", "previous_refresh_token == ''"),),
        ("tests/cli/test_commands.py::test_logout[legacy]",),
    ),
)
