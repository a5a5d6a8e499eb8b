"""What every store does: `idiolectd.ports.SharedStore`, on both event loops."""

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from idiolectd.did import file_name
from idiolectd.errors import DidError, LockBusy, RecordError
from idiolectd.ports import FULL_BATCH, NO_SERVER, Committed, ScheduleEntry, SharedStore, StoredSession
from idiolectd.session import OAuthSession
from idiolectd.state import LastError, RecordChange, RefreshState, State, reconcile
from idiolectd.store.record_text import MAX_RECORD
from tests.store.support import (
    ALICE,
    BOB,
    NOW,
    SOON,
    WEB_COLON,
    WEB_UNDERSCORE,
    Opener,
    key,
    put_foreign,
    remove_foreign,
    rotated,
    session,
    tokens,
)

pytestmark = pytest.mark.anyio


def due(did: str, at: float) -> ScheduleEntry:
    return ScheduleEntry(at=at, did=did, expires_at=at + 900, server="https://issuer.example")


async def stored(store: SharedStore, did: str = ALICE) -> OAuthSession:
    found = await store.load(did)
    assert found is not None
    return found


async def test_all_records_are_named_page_by_page(store: SharedStore, tmp_path: Path) -> None:
    """More than a page, a broken one among them; what can't be a record's key is left out."""
    dids = [f"did:plc:{number:024d}" for number in range(FULL_BATCH + 3)]
    if store.url.startswith("memory"):
        for did in dids:
            await store.save(session(did))
    elif store.url.startswith("sqlite:"):
        await store.save(session(dids[0]))
        connection = sqlite3.connect(tmp_path / "db" / "sessions.sqlite")
        with connection:
            keys = [*dids[1:], "x", "", "did;", "did:plc:" + "y" * 3000, b"did:plc:z"]
            connection.executemany("INSERT INTO sessions VALUES (?, 'broken')", [(key,) for key in keys])
        connection.close()
    else:
        await store.save(session(dids[0]))
        for did in dids[1:]:
            (Path(store.url.removeprefix("file://")) / file_name(did)).write_text("broken")
        (Path(store.url.removeprefix("file://")) / "x.json").write_text("broken")
    pages = [page async for page in store.pages()]
    assert sorted(did for page in pages for did in page) == dids
    assert len(pages) == 1 if store.url.startswith("memory") else 2
    assert all(len(page) <= FULL_BATCH for page in pages) or store.url.startswith("memory")


# Round trips -------------------------------------------------------------------------------------


async def test_a_session_comes_back_as_it_was_saved(store: SharedStore) -> None:
    """Every field, a field nobody knows and non-ASCII text survive a round trip."""
    saved = session(
        handle="álïce.example",
        extra={"later": {"a": [1, None, "é☃"]}},
        dpop_nonce="n",
        session_started_at="x",
    )
    await store.save(saved)
    assert await store.load(ALICE) == saved


async def test_what_is_not_there_is_none(store: SharedStore) -> None:
    """A missing session is None for load and read, and deleting it is no error."""
    assert await store.load(ALICE) is None
    assert await store.read(ALICE) == StoredSession(None, RefreshState())
    await store.delete(ALICE)
    assert await store.list_dids() == []
    assert await store.count() == 0


async def test_list_is_sorted_and_delete_removes_everything(store: SharedStore) -> None:
    """DIDs are listed in order; a deleted one leaves neither record nor state nor schedule."""
    for did in (BOB, WEB_COLON, ALICE):
        await store.save(session(did))
    assert await store.list_dids() == sorted([BOB, WEB_COLON, ALICE])
    assert await store.count() == 3
    read = await stored(store)
    await store.commit(read, (await store.read(ALICE)).state, due=due(ALICE, 5.0))
    await store.delete(ALICE)
    assert await store.read(ALICE) == StoredSession(None, RefreshState())
    assert await store.due(100.0, limit=9) == []
    assert await store.list_dids() == [BOB, WEB_COLON]


async def test_dids_that_upstream_confuses_are_two_sessions(store: SharedStore) -> None:
    """did:web:a:b.example and did:web:a_b.example don't overwrite each other."""
    await store.save(session(WEB_COLON, 1))
    await store.save(session(WEB_UNDERSCORE, 2))
    assert (await stored(store, WEB_COLON)).refresh_jwt == "refresh-1"
    assert (await stored(store, WEB_UNDERSCORE)).refresh_jwt == "refresh-2"
    await store.delete(WEB_COLON)
    assert await store.list_dids() == [WEB_UNDERSCORE]


@pytest.mark.parametrize(
    "did",
    [
        "did:plc:../../etc/passwd",
        "did:web:..%2f..%2fx/../y",
        "did:plc:a\0b",
        "did:plc:é",
        "../did:plc:a",
        "",
        "did:plc:" + "a" * 3000,
        "did:web:a~5Fb",
    ],
)
async def test_evil_dids_are_refused(store: SharedStore, did: str) -> None:
    """What is not a DID is a DidError in every method, never a path or a query."""
    with pytest.raises(DidError):
        await store.load(did)
    with pytest.raises(DidError):
        await store.read(did)
    with pytest.raises(DidError):
        await store.delete(did)
    with pytest.raises(DidError):
        await store.save(session(did))
    with pytest.raises(DidError):
        async with store.claim(did, patience=0):
            pass


@pytest.mark.parametrize("did", ["did:web:localhost%3A3000", "did:web:..%2Fx", "did:key:" + "z" * 200])
async def test_odd_dids_work(store: SharedStore, did: str) -> None:
    """Percent escapes, dots and long identifiers are kept apart and come back."""
    await store.save(session(did))
    assert (await stored(store, did)).did == did
    assert await store.list_dids() == [did]


async def test_a_did_too_long_for_a_file_is_refused_or_stored(store: SharedStore) -> None:
    """300 characters are a clear error for files, and no problem elsewhere."""
    did = "did:web:" + "a" * 300
    if store.url.startswith("file:"):
        with pytest.raises(DidError, match="too long"):
            await store.save(session(did))
    else:
        await store.save(session(did))
        assert await store.list_dids() == [did]


async def test_a_save_that_keeps_the_tokens_keeps_the_line(store: SharedStore) -> None:
    """Another handle, nonce or copy leaves the session planned; new tokens are to be looked at now."""
    await store.save(session())
    entry = await store.read(ALICE)
    assert entry.session is not None
    planned = replace(reconcile(entry.session, entry.state, NOW).state, next_attempt_at=5.0)
    await store.commit(entry.session, planned, due=due(ALICE, 5.0))
    await store.save(session(handle="bob.example"))
    await store.save(session(dpop_nonce="n"))
    assert await store.due(100.0, limit=9) == [due(ALICE, 5.0)]
    await store.save(session(generation=2))
    (line,) = await store.due(math.inf, limit=9)
    assert (line.did, line.server) == (ALICE, NO_SERVER)


async def test_a_save_leaves_a_line_where_there_was_none(store: SharedStore) -> None:
    """A planned session without a line is found again; a dead and a paused one stay without."""
    for number, changes in enumerate(({}, {"state": State.RELOGIN_REQUIRED}, {"paused": True})):
        saved = session(f"did:plc:{number:024d}")
        await store.save(saved)
        entry = await store.read(saved.did)
        assert entry.session is not None
        state = reconcile(entry.session, entry.state, NOW).state
        await store.commit(entry.session, replace(state, next_attempt_at=5.0, **changes))  # type: ignore[arg-type]
        await store.save(replace(saved, handle="new.example"))
    assert [line.did for line in await store.due(math.inf, limit=9)] == ["did:plc:" + "0" * 24]


async def test_a_session_without_a_line_is_found(store: SharedStore, tmp_path: Path) -> None:
    """Whoever wiped it; one that has a line is not named, nor is a record that is gone."""
    for did in (ALICE, BOB):
        await store.save(session(did))
    assert await store.unplanned() == []
    if store.url.startswith("sqlite:"):
        connection = sqlite3.connect(tmp_path / "db" / "sessions.sqlite")
        with connection:
            connection.execute("UPDATE idiolectd_state SET due_at = NULL WHERE did = ?", (BOB,))
        connection.close()
    else:
        store.schedule(BOB, None)
    assert await store.unplanned() == [BOB]
    assert await store.unplanned() == [BOB]


async def test_a_record_that_is_gone_is_forgotten_only_when_asked(store: SharedStore, tmp_path: Path) -> None:
    """A commit that finds no record writes and removes nothing: it may be on its way back."""
    await store.save(session())
    entry = await store.read(ALICE)
    assert entry.session is not None
    await store.commit(entry.session, replace(entry.state, paused=True))
    assert not await store.forget(ALICE)
    await remove_foreign(store, tmp_path, ALICE)
    assert await store.commit(entry.session, entry.state) is Committed.GONE
    await put_foreign(store, tmp_path, ALICE, session().to_json().encode())
    assert (await store.read(ALICE)).state.paused
    await remove_foreign(store, tmp_path, ALICE)
    assert await store.forget(ALICE)
    assert await store.read(ALICE) == StoredSession(None, RefreshState())
    assert await store.due(math.inf, limit=9) == []


# Damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        session().to_json()[:-5].encode(),
        b"x" * (MAX_RECORD + 1),
        session(BOB).to_json().encode(),
    ],
    ids=["empty", "torn", "list", "binary", "truncated", "huge", "somebody else's"],
)
async def test_an_unreadable_record_is_an_error_of_its_own(
    store: SharedStore, tmp_path: Path, text: bytes
) -> None:
    """It is a RecordError, never None; it hides from the list, hurts no other, and a login mends it."""
    await store.save(session(WEB_COLON))
    await put_foreign(store, tmp_path, ALICE, text)
    with pytest.raises(RecordError) as caught:
        await store.load(ALICE)
    assert caught.value.did == ALICE
    assert "refresh-" not in str(caught.value)
    with pytest.raises(RecordError):
        await store.read(ALICE)
    with pytest.raises(RecordError):
        await store.commit(session(), RefreshState())
    assert await store.list_dids() == [WEB_COLON]
    await store.save(session())
    assert await store.list_dids() == sorted([ALICE, WEB_COLON])


async def test_a_record_that_no_reader_would_take_is_not_written(store: SharedStore) -> None:
    """Saving what is too large or not text fails, and leaves what was there."""
    await store.save(session())
    for bad in (session(extra={"x": "y" * MAX_RECORD}), session(handle="\ud800")):
        with pytest.raises(RecordError):
            await store.save(bad)
    assert await store.load(ALICE) == session()


# Save --------------------------------------------------------------------------------------------


async def test_a_spent_token_never_replaces_a_newer_one(store: SharedStore) -> None:
    """A stale copy that is saved brings its other fields, not its tokens."""
    await store.save(session(generation=1))
    read = await store.read(ALICE)
    assert read.session is not None
    new, state = rotated(read.session, read.state, 2)
    assert await store.commit(read.session, state, tokens=new) is Committed.DONE
    await store.save(replace(session(generation=1), dpop_nonce="fresh-nonce", extra={"foreign": 1}))
    found = await store.read(ALICE)
    assert found.session is not None
    assert found.session.refresh_jwt == "refresh-2"
    assert found.session.access_jwt == "access-2"
    assert found.session.dpop_nonce == "fresh-nonce"
    assert found.session.extra == {"foreign": 1}
    assert reconcile(found.session, found.state, NOW).change is RecordChange.NONE


async def test_a_login_replaces_everything(store: SharedStore) -> None:
    """Another key with other tokens is written as given, and the old token is spent."""
    await store.save(session(generation=1, extra={"old": 1}))
    login = session(generation=9, dpop_private_key_jwk=key("other"), issuer=None, extra={"new": 1})
    await store.save(login)
    found = await store.read(ALICE)
    assert found.session == login
    assert session(generation=1).refresh_token_hash in found.state.spent
    assert found.state.pins.dpop_thumbprint == login.dpop_thumbprint


async def test_an_earlier_logins_copy_changes_nothing(store: SharedStore) -> None:
    """A spent token of another key takes no field along: its key would not fit the tokens."""
    first, second = session(generation=1), session(generation=2, dpop_private_key_jwk=key("other"))
    await store.save(first)
    await store.save(second)
    await store.save(replace(first, handle="stale.example"))
    assert await store.load(ALICE) == second


async def test_a_save_of_a_rotation_puts_dropped_pins_back(store: SharedStore) -> None:
    """A program that doesn't know our fields rotates and saves: the issuer is still known."""
    await store.save(session(generation=1))
    await store.save(session(generation=2, issuer=None))
    assert (await stored(store)).issuer == "https://issuer.example"
    assert (await stored(store)).refresh_jwt == "refresh-2"


async def test_a_save_over_a_foreign_rotation_knows_both_tokens(store: SharedStore, tmp_path: Path) -> None:
    """The token that a foreign program brought is looked at first, and is spent afterwards."""
    await store.save(session(generation=1))
    await put_foreign(store, tmp_path, ALICE, session(generation=2).to_json().encode())
    await store.save(session(generation=3))
    spent = (await store.read(ALICE)).state.spent
    assert {session(generation=g).refresh_token_hash for g in (1, 2)} <= set(spent)
    await store.save(session(generation=2))
    assert (await stored(store)).refresh_jwt == "refresh-3"


async def test_a_damaged_state_blocks_nothing(shared: SharedStore, tmp_path: Path) -> None:
    """A state that can't be read counts as empty, and says so."""
    await shared.save(session())
    if shared.url.startswith("file:"):
        (state,) = (tmp_path / "files" / ".idiolectd" / "state").iterdir()
        state.write_bytes(b"{")
    else:
        import sqlite3

        foreign = sqlite3.connect(tmp_path / "db" / "sessions.sqlite")
        with foreign:
            foreign.execute("UPDATE idiolectd_state SET state_json = '{'")
        foreign.close()
    entry = await shared.read(ALICE)
    assert entry.session == session()
    assert isinstance(entry.state.last_error, LastError)
    assert entry.state.last_error.code == "state_damaged"
    assert await shared.commit(session(), RefreshState(attempts=3)) is Committed.DONE
    assert (await shared.read(ALICE)).state.attempts == 3


# Commit ------------------------------------------------------------------------------------------


async def test_a_commit_changes_tokens_and_state_in_one_step(store: SharedStore) -> None:
    """DONE: new tokens, new state and the line of the schedule are there together."""
    await store.save(session(extra={"kept": 1}))
    entry = await store.read(ALICE)
    assert entry.session is not None
    new, state = rotated(entry.session, entry.state, 2)
    assert await store.commit(entry.session, state, tokens=new, due=due(ALICE, 7.0)) is Committed.DONE
    assert await store.read(ALICE) == StoredSession(session(generation=2, extra={"kept": 1}), state)
    assert await store.due(8.0, limit=9) == [due(ALICE, 7.0)]


async def test_a_commit_without_tokens_leaves_the_record_alone(store: SharedStore, tmp_path: Path) -> None:
    """Not one byte of a foreign program's record changes when only the state does."""
    await store.save(session())
    odd = b' {"zzz": 1, ' + session().to_json().encode()[1:]
    await put_foreign(store, tmp_path, ALICE, odd)
    before = raw(store, tmp_path)
    read = await stored(store)
    assert await store.commit(read, RefreshState(state=State.RETRYING)) is Committed.DONE
    assert raw(store, tmp_path) == before == odd
    assert (await store.read(ALICE)).state.state is State.RETRYING


def raw(store: SharedStore, folder: Path) -> bytes:
    """A record's text as it is stored."""
    import sqlite3

    from idiolectd.store import InMemoryOAuthTokenStore

    if isinstance(store, InMemoryOAuthTokenStore):
        return store._records[ALICE]
    if store.url.startswith("file:"):
        return next((folder / "files").glob("*.json")).read_bytes()
    foreign = sqlite3.connect(folder / "db" / "sessions.sqlite")
    (text,) = foreign.execute("SELECT CAST(body_json AS BLOB) FROM sessions").fetchone()
    foreign.close()
    return bytes(text)


async def test_a_commit_to_a_deleted_session_writes_nothing(store: SharedStore) -> None:
    """GONE: a logout is not undone, and no state stays behind."""
    await store.save(session())
    await store.delete(ALICE)
    new, state = rotated(session(), RefreshState(), 2)
    assert await store.commit(session(), state, tokens=new, due=due(ALICE, 1.0)) is Committed.GONE
    assert await store.read(ALICE) == StoredSession(None, RefreshState())
    assert await store.due(2.0, limit=9) == []


async def test_a_commit_after_a_login_writes_nothing(store: SharedStore) -> None:
    """SUPERSEDED: the login that landed meanwhile stays, with its own state and schedule."""
    await store.save(session())
    read = await store.read(ALICE)
    assert read.session is not None
    login = session(generation=9, dpop_private_key_jwk=key("other"))
    await store.save(login)
    after = await store.read(ALICE)
    new, state = rotated(read.session, read.state, 2)
    assert await store.commit(read.session, state, tokens=new, due=due(ALICE, 1.0)) is Committed.SUPERSEDED
    assert await store.commit(read.session, state, due=due(ALICE, 1.0)) is Committed.SUPERSEDED
    assert await store.read(ALICE) == after
    assert await store.due(2.0, limit=9) == []


async def test_a_spent_token_put_back_is_no_obstacle(store: SharedStore, tmp_path: Path) -> None:
    """A foreign writer's stale tokens are replaced, its other fields stay."""
    await store.save(session(generation=1))
    entry = await store.read(ALICE)
    assert entry.session is not None
    new, state = rotated(entry.session, entry.state, 2)
    await store.commit(entry.session, state, tokens=new)
    stale = session(generation=1, dpop_nonce="n", issuer=None)
    await put_foreign(store, tmp_path, ALICE, stale.to_json().encode())
    found = await store.read(ALICE)
    assert found.session is not None
    adopted = reconcile(found.session, found.state, NOW)
    assert adopted.change is RecordChange.SPENT
    assert await store.commit(adopted.session, adopted.state, tokens=new) is Committed.DONE
    assert await store.load(ALICE) == session(generation=2, dpop_nonce="n")


async def test_a_field_that_changed_meanwhile_is_kept(store: SharedStore, tmp_path: Path) -> None:
    """A foreign save of another field during a refresh survives it; dropped pins come back."""
    await store.save(session())
    entry = await store.read(ALICE)
    assert entry.session is not None
    foreign = session(dpop_nonce="n2", pds_url="https://moved.example", issuer=None, extra={"x": 1})
    await put_foreign(store, tmp_path, ALICE, foreign.to_json().encode())
    new, state = rotated(entry.session, entry.state, 2)
    assert await store.commit(entry.session, state, tokens=new) is Committed.DONE
    assert await store.load(ALICE) == session(
        generation=2, dpop_nonce="n2", pds_url="https://moved.example", extra={"x": 1}
    )


async def test_a_commit_that_is_repeated_is_done(store: SharedStore) -> None:
    """A caller who never learnt that his commit worked may repeat it."""
    await store.save(session())
    new, state = rotated(session(), RefreshState(), 2)
    assert await store.commit(session(), state, tokens=new) is Committed.DONE
    assert await store.commit(session(), state, tokens=new) is Committed.DONE
    assert await store.load(ALICE) == session(generation=2)


# Schedule ----------------------------------------------------------------------------------------


async def test_the_schedule_is_in_order_and_bounded(store: SharedStore) -> None:
    """Lines before a time, soonest first, as many as asked for; a new line replaces the old one."""
    dids = [f"did:plc:{letter * 24}" for letter in "abcdefg"]
    for number, did in enumerate(dids):
        await store.save(session(did))
        await store.commit(session(did), RefreshState(), due=due(did, 100.0 - number))
    assert [line.did for line in await store.due(99.0, limit=3)] == dids[:3:-1]
    assert len(await store.due(1000.0, limit=100)) == len(dids)
    await store.commit(session(dids[6]), RefreshState(), due=due(dids[6], 500.0))
    assert [line.did for line in await store.due(97.0, limit=3)] == [dids[5], dids[4]]
    await store.commit(session(dids[5]), RefreshState(), due=None)
    assert [line.did for line in await store.due(97.0, limit=3)] == [dids[4]]


async def test_the_schedule_is_read_in_pages(store: SharedStore) -> None:
    """Each page begins behind the last line of the one before, also among lines of one moment."""
    dids = [f"did:plc:{letter * 24}" for letter in "abcdefg"]
    lines = [due(did, 10.0 if number < 5 else -3.0) for number, did in enumerate(dids)]
    for line in lines:
        await store.save(session(line.did))
        await store.commit(session(line.did), RefreshState(), due=line)
    found: list[ScheduleEntry] = []
    while page := await store.due(99.0, limit=3, after=found[-1] if found else None):
        found += page
    assert found == sorted(lines)
    assert await store.due(10.0, limit=9, after=lines[0]) == []


async def test_a_save_drops_the_line(store: SharedStore) -> None:
    """After a login the old line of the schedule means nothing."""
    await store.save(session())
    await store.commit(session(), RefreshState(), due=due(ALICE, 1.0))
    await store.save(session(generation=2))
    assert await store.due(2.0, limit=9) == []


async def test_a_line_that_another_process_made_is_told(opening_shared: Opener) -> None:
    """Whoever reads a state that another process has planned can say so: from then on its line is named."""
    async with opening_shared() as theirs, opening_shared() as ours:
        await theirs.save(session())
        for line in (due(ALICE, 1.0), due(ALICE, 5.0)):
            await theirs.commit(session(), RefreshState(next_attempt_at=line.at), due=line)
            ours.schedule(ALICE, line)
            assert await ours.due(9.0, limit=9) == [line]


# Claims ------------------------------------------------------------------------------------------


async def test_a_claim_excludes_and_has_patience(store: SharedStore) -> None:
    """A second claim waits as long as it is told to, then says LockBusy; another DID is free."""
    async with store.claim(ALICE, patience=0):
        with pytest.raises(LockBusy):
            async with store.claim(ALICE, patience=0):
                pass
        start = anyio.current_time()
        with pytest.raises(LockBusy):
            async with store.claim(ALICE, patience=0.15):
                pass
        assert 0.1 < anyio.current_time() - start < 2.0
        async with store.claim(BOB, patience=0):
            pass
    async with store.claim(ALICE, patience=0):
        pass


async def test_waiting_claims_are_served_one_after_another(store: SharedStore) -> None:
    """Twenty tasks hold the claim in turn, never two at once, and each gets it."""
    holders, most, served = 0, 0, []

    async def work(number: int) -> None:
        nonlocal holders, most
        async with store.claim(ALICE, patience=30):
            holders += 1
            most = max(most, holders)
            await anyio.sleep(0.002)
            holders -= 1
            served.append(number)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(work, number)
    assert most == 1
    assert sorted(served) == list(range(20))


async def test_a_cancelled_wait_leaves_the_claim_free(store: SharedStore) -> None:
    """Who is cancelled while waiting, or while holding, keeps nothing."""
    async with store.claim(ALICE, patience=0):
        with anyio.move_on_after(0.05):
            async with store.claim(ALICE, patience=30):
                raise AssertionError("two holders")
    with anyio.move_on_after(0.05):
        async with store.claim(ALICE, patience=0):
            await anyio.sleep_forever()
    async with store.claim(ALICE, patience=0):
        pass


async def test_a_claim_does_not_hinder_a_save(store: SharedStore) -> None:
    """A login lands while somebody refreshes."""
    async with store.claim(ALICE, patience=0):
        with anyio.fail_after(SOON):
            await store.save(session())


# Watching ----------------------------------------------------------------------------------------


async def test_the_first_answer_names_everything_unscheduled(store: SharedStore, kind: str) -> None:
    """It comes at once, be the store empty or not, and leaves out what has a line.

    A folder can't: it does not know whether a record is still the one that its line was made for.
    """
    async with store.watch() as watch:
        with anyio.fail_after(SOON):
            assert list(await watch.wait_changed()) == []
    await store.save(session(ALICE))
    await store.save(session(BOB))
    await store.commit(session(BOB), RefreshState(), due=due(BOB, 1.0))
    async with store.watch() as watch:
        with anyio.fail_after(SOON):
            named = [ALICE, BOB] if kind == "files" else [ALICE]
            assert sorted(await watch.wait_changed()) == named


async def test_a_foreign_write_while_nobody_looked_out_is_named_first(
    store: SharedStore, tmp_path: Path
) -> None:
    """The line that was made before it can't be relied on."""
    async with store.watch():
        await store.save(session())
        await store.commit(session(), RefreshState(), due=due(ALICE, 1.0))
    foreign = session(pds_url="https://moved.example")
    await put_foreign(store, tmp_path, ALICE, foreign.to_json().encode())
    async with store.watch() as watch:
        with anyio.fail_after(SOON):
            assert list(await watch.wait_changed()) == [ALICE]


async def test_saves_and_deletes_are_reported(store: SharedStore) -> None:
    """What this store object saves and deletes is reported as anybody's would be."""
    async with store.watch() as watch:
        await watch.wait_changed()
        await store.save(session())
        with anyio.fail_after(SOON):
            assert ALICE in await watch.wait_changed()
        await store.delete(ALICE)
        with anyio.fail_after(SOON):
            assert ALICE in await watch.wait_changed()


async def test_own_commits_are_not_reported(store: SharedStore) -> None:
    """The daemon is not told of what it just did; of a later change of the same session it is."""
    await store.save(session())
    async with store.watch() as watch:
        await watch.wait_changed()
        new, state = rotated(session(), RefreshState(), 2)
        await store.commit(session(), state, tokens=new, due=due(ALICE, 1.0))
        await store.commit(session(generation=2), replace(state, attempts=1), due=due(ALICE, 2.0))
        with anyio.move_on_after(0.8):
            raise AssertionError(f"reported: {await watch.wait_changed()}")
        await store.save(session(generation=3))
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [ALICE]


async def test_a_foreign_change_just_before_an_own_commit_is_reported(
    store: SharedStore, tmp_path: Path
) -> None:
    """A commit on top of a record that had changed since it was read does not hide that change."""
    await store.save(session())
    async with store.watch() as watch:
        await watch.wait_changed()
        foreign = session(pds_url="https://moved.example")
        await put_foreign(store, tmp_path, ALICE, foreign.to_json().encode())
        new, state = rotated(session(), RefreshState(), 2)
        await store.commit(session(), state, tokens=new, due=due(ALICE, 1.0))
        with anyio.fail_after(SOON):
            assert await watch.wait_changed() == [ALICE]


async def test_a_storm_is_reported_in_bounded_answers(store: SharedStore) -> None:
    """More changes than one answer holds come in full answers and one that is not full."""
    dids = {f"did:plc:{number:024d}" for number in range(FULL_BATCH + 50)}
    waiting = iter(dids)

    async def save() -> None:
        for did in waiting:
            await store.save(session(did))

    # So many at once, because on a slow disk the last of a thousand would wait too long for the lock.
    async with anyio.create_task_group() as group:
        for _ in range(32):
            group.start_soon(save)
    async with store.watch() as watch:
        with anyio.fail_after(20):
            first, second = await watch.wait_changed(), await watch.wait_changed()
        assert len(first) == FULL_BATCH
        assert {*first, *second} == dids


async def test_a_cancelled_look_out_loses_nothing(store: SharedStore) -> None:
    """Changes that arrive while a wait is being cancelled are told by the next one."""
    seen: set[str] = set()
    async with store.watch() as watch:
        await watch.wait_changed()
        for number in range(20):
            did = f"did:plc:{number:024d}"
            await store.save(session(did))
            with anyio.move_on_after(0.003 * number):
                seen.update(await watch.wait_changed())
        with anyio.move_on_after(5):
            while len(seen) < 20:
                seen.update(await watch.wait_changed())
    assert len(seen) == 20


# Life --------------------------------------------------------------------------------------------


async def test_what_was_stored_is_there_after_a_restart(opening_shared: Opener) -> None:
    """Record and state are on disk when save and commit return."""
    new, state = rotated(session(), RefreshState(), 2)
    async with opening_shared() as store:
        await store.save(session())
        await store.commit(session(), state, tokens=new, due=due(ALICE, 1.0))
    async with opening_shared() as store:
        assert await store.read(ALICE) == StoredSession(session(generation=2), state)


async def test_a_cancelled_commit_leaves_the_store_usable(store: SharedStore) -> None:
    """Tasks cancelled at any moment of a commit leave it done or not done, and the store free."""
    await store.save(session())
    for number in range(30):
        read = await stored(store)
        entry = await store.read(ALICE)
        new, state = rotated(read, entry.state, number + 2)
        with anyio.move_on_after(0.0001 * number):
            await store.commit(read, state, tokens=new)
    with anyio.fail_after(SOON):
        await store.save(session(BOB))
        entry = await store.read(ALICE)
    assert entry.session is not None
    assert reconcile(entry.session, entry.state, NOW).change in (RecordChange.NONE, RecordChange.LOGIN)


async def test_many_commits_at_once_are_all_done(store: SharedStore) -> None:
    """A hundred sessions commit together; one with an unreadable record fails alone."""
    dids = [f"did:plc:{number:024d}" for number in range(100)]
    for did in dids:
        await store.save(session(did))
    await store.delete(dids[7])
    results: dict[str, Committed] = {}
    failed = []

    async def commit(did: str) -> None:
        new, state = rotated(session(did), RefreshState(), 2)
        results[did] = await store.commit(session(did), state, tokens=new)

    async def commit_too_large() -> None:
        try:
            await store.save(session(BOB, extra={"x": "y" * MAX_RECORD}))
        except RecordError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for did in dids:
            group.start_soon(commit, did)
        group.start_soon(commit_too_large)
    assert len(failed) == 1
    assert results.pop(dids[7]) is Committed.GONE
    assert set(results.values()) == {Committed.DONE}
    assert {(await stored(store, did)).refresh_jwt for did in results} == {"refresh-2"}


def test_tokens_name_only_what_a_rotation_brings() -> None:
    """The helper of this suite leaves handle and scope to the session."""
    assert tokens(2).handle is None
