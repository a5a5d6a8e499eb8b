"""Bugs in what becomes of an answer that has arrived, in part or in a broken frame, and of what it holds."""

from tests.torture.plants.plant import Edit, Plant

_ARRIVED = "tests/http/test_arrived.py::"
_CONNECTION = "tests/http/test_connection.py::"
_WITHHELD = "tests/refresh/test_withheld.py::"

PLANTS = (
    Plant(
        "what arrived is not kept",
        3,
        "a broken frame throws the new tokens away",
        (
            Edit(
                "http",
                "RequestProgress.take",
                "[: max(0, self._keep - len(self.arrived))]",
                "[:0][: max(0, self._keep - len(self.arrived))]",
            ),
        ),
        (_ARRIVED + "test_tokens_arrive_in_every_broken_frame[trio]",),
        short=True,
    ),
    Plant(
        "no last look at the socket",
        3,
        "a process that was frozen throws away the answer that lies there",
        (Edit("http", "Connection.aclose", "not self._progress.answered", "self._progress is None"),),
        ("tests/http/test_frozen.py::test_an_answer_waits_for_a_frozen_process[trio]",),
    ),
    Plant(
        "only a whole object is read",
        3,
        "text behind the JSON, or a byte that is missing, throws the new tokens away",
        (Edit("http", "Response.members", "members(self.body)", "{}"),),
        (_ARRIVED + "test_tokens_arrive_in_every_broken_frame[trio]",),
    ),
    Plant(
        "a broken head is the end",
        3,
        "one line that is no header throws the new tokens away",
        (Edit("http", "read_message", "_mended(raw, framing=framing)", "None if framing else raw"),),
        (_ARRIVED + "test_tokens_arrive_in_every_broken_frame[trio]",),
    ),
    Plant(
        "a part of an answer taken for the whole",
        6,
        "a refusal that nobody has read to its end is a verdict",
        (Edit("http", "_recovered", "if not is_whole", "if response is None"),),
        (_ARRIVED + "test_a_part_of_an_answer_is_no_answer[trio]",),
    ),
    Plant(
        "an access token alone taken for an answer",
        3,
        "an answer cut off within the refresh token leaves the used one as if it were good",
        (
            Edit(
                "oauth",
                "TokenResponse.found",
                "(access_token is None or whole is None)",
                "access_token is None",
            ),
        ),
        ("tests/oauth/test_socket.py::test_an_answer_counts_from_the_end_of_its_refresh_token[trio]",),
    ),
    Plant(
        "a connection with a rest on it used again",
        3,
        "the next answer on it is unreadable",
        (Edit("http", "Connection.rest", "or self._progress.overrun:", ":"),),
        (_ARRIVED + "test_what_came_too_much_is_no_part_of_the_next_answer[trio]",),
    ),
    Plant(
        "an early refusal is not read",
        6,
        "an answer that is there is called lost, because the server did not read all that it was sent",
        (
            Edit(
                "http", "Connection._write", "self._is_broken = True", 'raise httpx.WriteError("") from None'
            ),
        ),
        (_CONNECTION + "test_an_answer_counts_although_the_request_was_not_read[trio]",),
    ),
    Plant(
        "a request counts as sent when all of it is",
        6,
        "a token that the server has read is sent again at once",
        (
            Edit(
                "http",
                "Connection.ask",
                "progress.begins(self.stream)\nawait self._write(request, limits)",
                "await self._write(request, limits)\nprogress.begins(self.stream)",
            ),
        ),
        (_CONNECTION + "test_a_request_that_is_stuck_half_way_is_unclear[trio-reads_nothing-None]",),
    ),
    Plant(
        "a connection that has ended used again",
        6,
        "a token goes to a server that has hung up, and nobody knows whether it was read",
        (Edit("http", "OriginPools._connection", "and not connection.is_disturbed:", ":"),),
        (_CONNECTION + "test_a_connection_that_the_server_has_closed_is_not_used[trio]",),
    ),
    Plant(
        "unpacked without a bound",
        7,
        "a server fills the memory",
        (Edit("http", "_inflated", "part, limit + 1", "part"),),
        (_ARRIVED + "test_unpacking_is_bounded",),
    ),
    Plant(
        "spill forgets that its tokens do not fit",
        3,
        "another account's tokens in this one's record, after a full disk",
        (Edit("store", "", 'misfit": "mismatch", "unsaid', "unsaid"),),
        (_WITHHELD + "test_a_misfit_that_was_spilled_stays_one[trio]",),
    ),
    Plant(
        "spill published whatever it says",
        3,
        "tokens that nobody has confirmed in the record, after a full disk",
        (
            Edit(
                "refresh",
                "Recorder._adopt_spill",
                "spilled.mismatch is None and spilled.unconfirmed is",
                "spilled is not",
            ),
        ),
        (
            _WITHHELD + "test_a_misfit_that_was_spilled_stays_one[trio]",
            _WITHHELD + "test_unconfirmed_tokens_that_were_spilled_are_confirmed_first[trio]",
        ),
        short=True,
    ),
    Plant(
        "unconfirmed tokens published",
        3,
        "an answer without sub brings another account's tokens into the record",
        (Edit("refresh", "RefreshEngine._persist", "None, unconfirmed=None", "None"),),
        (_WITHHELD + "test_what_the_pds_does_not_confirm_is_not_published[trio-another account's]",),
    ),
    Plant(
        "confirmed once or never",
        3,
        "a PDS that is away at that moment ends a session that lives",
        (Edit("refresh", "RefreshEngine.refresh", "is not None and withheld", "== '' and withheld"),),
        (_WITHHELD + "test_the_pds_can_be_asked_later[trio]",),
    ),
    Plant(
        "a client's refresh has no second place",
        5,
        "tokens that a locked database does not take are dropped",
        (Edit("refresh", "Recorder.__init__", "store.spill", "None"),),
        ("tests/refresh/test_needed.py::test_tokens_that_a_locked_database_does_not_take_are_kept[asyncio]",),
    ),
)
