"""The filesystem store: names, upstream's files, modes, and what lies in its folder."""

import grp
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import RecordError, StoreError
from idiolectd.ports import Committed
from idiolectd.session import OAuthSession
from idiolectd.state import RecordChange, RefreshState, reconcile, tokens_of
from idiolectd.store import FilesystemOAuthTokenStore
from idiolectd.store.files.together import Step, Write
from tests.store.support import (
    ALICE,
    BOB,
    GOLDEN,
    NOW,
    WEB_COLON,
    WEB_UNDERSCORE,
    Child,
    key,
    rotated,
    session,
)

pytestmark = pytest.mark.anyio
opened = FilesystemOAuthTokenStore.open


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# Upstream's files ----------------------------------------------------------------------------------


async def test_upstreams_files_come_back_byte_for_byte(tmp_path: Path) -> None:
    """What idiolect-oauth wrote is read under its names, and written back with the same bytes."""
    shutil.copytree(GOLDEN / "fs", tmp_path / "s")
    golden = {path.name: path.read_bytes() for path in (GOLDEN / "fs").iterdir()}
    async with opened(tmp_path / "s") as store:
        dids = await store.list_dids()
        assert len(dids) == len(golden)
        for did in dids:
            read = await store.load(did)
            assert read is not None
            await store.save(read)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").glob("*.json")} == golden


async def test_upstream_finds_and_reads_what_we_write(tmp_path: Path) -> None:
    """Upstream's name, its required fields, compact JSON, mode 0600; nothing else that ends in .json."""
    for did in (ALICE, "did:web:example.com", "did:web:localhost%3A3000"):
        async with opened(tmp_path / "s") as store:
            await store.save(session(did))
        path = tmp_path / "s" / upstream_file_name(did)
        record = json.loads(path.read_text())
        required = {"did", "pdsUrl", "accessJwt", "refreshJwt", "dpopPrivateKeyJwk", "issuedAt", "expiresAt"}
        assert required <= record.keys()
        assert path.read_text() == json.dumps(record, separators=(",", ":"))
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "s").glob("[!.]*"))) == 3


async def test_the_upstream_clis_file_stays_readable_for_it(tmp_path: Path) -> None:
    """A file of `oauth login` is read, and keeps pds_url when new tokens are written."""
    did = "did:plc:z72i7hdynmk6r22z27h6tvur"
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / upstream_file_name(did)
    shutil.copy(GOLDEN / "cli_session.json", path)
    async with opened(tmp_path / "s") as store:
        entry = await store.read(did)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 2)
        assert await store.commit(entry.session, state, tokens=new) is Committed.DONE
    record = json.loads(path.read_text())
    assert record["pds_url"] == record["pdsUrl"] == "https://pds.example"
    assert record["accessJwt"] == "access-2"


# Two names -----------------------------------------------------------------------------------------


async def test_a_record_under_upstreams_name_is_read_and_written_there(tmp_path: Path) -> None:
    """A foreign program knows only that name: it finds the new tokens."""
    async with opened(tmp_path) as store:
        theirs = tmp_path / upstream_file_name(WEB_UNDERSCORE)
        theirs.write_text(session(WEB_UNDERSCORE).to_json())
        assert await store.list_dids() == [WEB_UNDERSCORE]
        entry = await store.read(WEB_UNDERSCORE)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 2)
        await store.commit(entry.session, state, tokens=new)
        assert OAuthSession.from_json(theirs.read_text()).refresh_jwt == "refresh-2"
        assert not (tmp_path / file_name(WEB_UNDERSCORE)).exists()
        assert await store.load(WEB_COLON) is None
        await store.save(session(WEB_COLON, 5))
        assert OAuthSession.from_json(theirs.read_text()).did == WEB_UNDERSCORE


async def test_a_foreign_login_beside_our_file_wins_and_the_twin_goes(tmp_path: Path) -> None:
    """Our own file is from before; with the next write it is removed, and with a delete too."""
    async with opened(tmp_path) as store:
        await store.save(session(WEB_COLON, 1))
        ours, theirs = tmp_path / file_name(WEB_COLON), tmp_path / upstream_file_name(WEB_COLON)
        assert ours.exists()
        theirs.write_text(session(WEB_COLON, 7, dpop_private_key_jwk=key("other")).to_json())
        assert (await store.list_dids(), await store.load(WEB_COLON)) == (
            [WEB_COLON],
            session(WEB_COLON, 7, dpop_private_key_jwk=key("other")),
        )
        entry = await store.read(WEB_COLON)
        assert entry.session is not None
        await store.commit(entry.session, reconcile(entry.session, entry.state, NOW).state)
        assert ours.exists()  # no tokens: no record is touched
        await store.save(entry.session)
        assert not ours.exists()
        ours.write_text(session(WEB_COLON, 1).to_json())
        await store.delete(WEB_COLON)
        assert await store.load(WEB_COLON) is None


async def test_a_foreign_stale_copy_beside_our_file_is_undone(tmp_path: Path) -> None:
    """Under upstream's name lies a spent token: the state knows, and the good tokens are put back."""
    async with opened(tmp_path) as store:
        await store.save(session(WEB_COLON, 1))
        await store.save(session(WEB_COLON, 2))
        (tmp_path / upstream_file_name(WEB_COLON)).write_text(session(WEB_COLON, 1).to_json())
        entry = await store.read(WEB_COLON)
        assert entry.session is not None
        adopted = reconcile(entry.session, entry.state, NOW)
        assert adopted.change is RecordChange.SPENT
        await store.commit(adopted.session, adopted.state, tokens=tokens_of(adopted.session))
        assert (await store.load(WEB_COLON)) == session(WEB_COLON, 2)
        assert not (tmp_path / file_name(WEB_COLON)).exists()


async def test_a_damaged_file_of_a_shared_name(tmp_path: Path) -> None:
    """It is nobody's proof: an error where it may be the record, no matter where our own file is."""
    async with opened(tmp_path) as store:
        (tmp_path / upstream_file_name(WEB_COLON)).write_text("{")
        for did in (WEB_COLON, WEB_UNDERSCORE):
            with pytest.raises(RecordError):
                await store.load(did)
            with pytest.raises(RecordError):
                await store.delete(did)
        await store.save(session(WEB_COLON))
        assert await store.load(WEB_COLON) == session(WEB_COLON)


# What may lie in the folder ------------------------------------------------------------------------


async def test_links_pipes_and_folders_are_no_records(tmp_path: Path) -> None:
    """They are RecordErrors; a pipe doesn't block, a link doesn't lead out."""
    root = tmp_path / "s"
    async with opened(root) as store:
        (tmp_path / "elsewhere.json").write_text(session().to_json())
        (root / upstream_file_name(ALICE)).symlink_to(tmp_path / "elsewhere.json")
        os.mkfifo(root / upstream_file_name(BOB))
        (root / upstream_file_name("did:plc:c")).mkdir()
        with anyio.fail_after(5):
            for did in (ALICE, BOB, "did:plc:c"):
                with pytest.raises(RecordError):
                    await store.load(did)
            assert await store.list_dids() == []
        await store.save(session(generation=2))  # replaces the link, not what it points to
        assert (tmp_path / "elsewhere.json").read_text() == session().to_json()
        assert await store.load(ALICE) == session(generation=2)


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Foreign temporaries, notes and sessions under odd names are not listed and not touched."""
    others = {
        "notes.txt": "x",
        "backup.json": session().to_json(),
        "did_plc_x.json.tmp": session().to_json(),
        ".hidden.json": "{",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    async with opened(tmp_path) as store:
        assert await store.list_dids() == []
        await store.save(session(BOB))
        assert await store.list_dids() == [BOB]
    for name, text in others.items():
        assert (tmp_path / name).read_text() == text


async def test_a_folder_that_is_gone_is_no_empty_store(tmp_path: Path) -> None:
    """After an unmount, a removal or a replacement load raises: it is never "no session"."""
    root = tmp_path / "s"
    async with opened(root) as store:
        await store.save(session())
        root.rename(tmp_path / "away")
        with pytest.raises(StoreError):
            await store.load(ALICE)
        root.mkdir()
        for call in (store.load, store.read):
            with pytest.raises(StoreError, match="replaced"):
                await call(ALICE)
        with pytest.raises(StoreError):
            await store.commit(session(), RefreshState())
        shutil.rmtree(root)
        (tmp_path / "away").rename(root)
        assert await store.load(ALICE) == session()


# Modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_nobody_else_can_read(tmp_path: Path, umask: int) -> None:
    """Every file is 0600 and every folder 0700, whatever the umask."""
    before = os.umask(umask)
    try:
        async with opened(tmp_path / "new" / "s") as store:
            await store.save(session())
            async with store.claim(ALICE, patience=0):
                pass
    finally:
        os.umask(before)
    found = everything_in(tmp_path)
    assert {path.stat().st_mode & 0o7777 for path in found if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o7777 for path in found if path.is_file()} == {0o600}


async def test_a_group_may_read_records_and_nothing_else(tmp_path: Path) -> None:
    """Records are 0640 and the folder 2750 with the group; state and locks stay private."""
    group = grp.getgrgid(os.getgroups()[-1] if os.getgroups() else os.getgid())
    async with opened(tmp_path / "s", group=group.gr_name) as store:
        await store.save(session())
        new, state = rotated(session(), RefreshState(), 2)
        await store.commit(session(), state, tokens=new)
    root = tmp_path / "s"
    record = root / upstream_file_name(ALICE)
    assert (root.stat().st_mode & 0o7777, root.stat().st_gid) == (0o2750, group.gr_gid)
    assert (record.stat().st_mode & 0o7777, record.stat().st_gid) == (0o640, group.gr_gid)
    private = root / ".idiolectd"
    folders = (private, *(p for p in everything_in(private) if p.is_dir()))
    assert {p.stat().st_mode & 0o777 for p in folders} == {0o700}
    assert {p.stat().st_mode & 0o777 for p in everything_in(private) if p.is_file()} == {0o600}


async def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Load, list, count and read leave no trace in the folder."""
    shutil.copytree(GOLDEN / "fs", tmp_path / "s")
    before = everything_in(tmp_path)
    async with opened(tmp_path / "s") as store:
        for did in await store.list_dids():
            await store.load(did)
            await store.read(did)
        await store.count()
    assert everything_in(tmp_path) == before


# Crashes and other processes -----------------------------------------------------------------------


async def test_a_crash_between_state_and_record_loses_nothing(tmp_path: Path) -> None:
    """The state of a commit is there, its record is not: the new tokens are in the state."""
    async with opened(tmp_path) as store:
        await store.save(session())
        entry = await store.read(ALICE)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 2)
        steps = store._writer.commit(entry.session, state, new, None)
        _synced(next(steps))
        assert next(steps) == tmp_path / ".idiolectd" / "state"
        steps.close()  # the power fails
    async with opened(tmp_path) as store:
        entry = await store.read(ALICE)
        assert entry.session is not None
        assert entry.interrupted_commit
        adopted = reconcile(entry.session, entry.state, NOW)
        assert adopted.change is RecordChange.SPENT
        assert adopted.session.refresh_jwt == "refresh-2"
        done = await store.commit(entry.session, adopted.state, tokens=tokens_of(adopted.session))
        assert done is Committed.DONE
        assert await store.load(ALICE) == session(generation=2)
        assert not (await store.read(ALICE)).interrupted_commit


async def test_a_used_token_that_was_put_back_is_no_commit_cut_short(tmp_path: Path) -> None:
    """Even if it is the whole record of before, to the last byte: somebody wrote it after the state."""
    async with opened(tmp_path) as store:
        await store.save(session())
        path = tmp_path / upstream_file_name(ALICE)
        before = path.read_bytes()
        entry = await store.read(ALICE)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 2)
        await store.commit(entry.session, state, tokens=new)
        await anyio.sleep(0.02)  # the kernel's clock of file times ticks a hundred times a second at least
        path.write_bytes(before)
        entry = await store.read(ALICE)
        assert entry.session == session()
        assert not entry.interrupted_commit


async def test_the_order_of_record_and_state(tmp_path: Path) -> None:
    """The state goes first, so that a crash can be mended; a login's record does, for the same reason."""
    login = session(generation=9, dpop_private_key_jwk=key("other"))
    order: list[str] = []

    def go_through(steps: Write[object]) -> None:
        order.extend("record" if step == tmp_path else "state" for step in map(_synced, steps) if step)

    async with opened(tmp_path) as store:
        await store.save(session())
        old = (await store.read(ALICE)).state
        go_through(store._writer.save(login, NOW))
        go_through(store._writer.save(replace(login, refresh_jwt="refresh-10"), NOW))
        entry = await store.read(ALICE)
        assert entry.session is not None
        new, state = rotated(entry.session, entry.state, 11)
        go_through(store._writer.commit(entry.session, state, new, None))
    assert order == ["record", "state", "state", "record", "state", "record"]
    assert reconcile(login, old, NOW).change is RecordChange.LOGIN


def _synced(step: Step) -> Path | None:
    """Does what a write waits for; returns the folder whose names have changed, if it is one."""
    if isinstance(step, Path):
        return step
    for new in step:
        new.sync()
    return None


async def test_an_unchanged_state_is_not_written_again(tmp_path: Path) -> None:
    """After a restart thousands of sessions are committed as they are: that costs no fsync."""
    async with opened(tmp_path) as store:
        await store.save(session())
        entry = await store.read(ALICE)
        path = tmp_path / ".idiolectd" / "state" / file_name(ALICE)
        before = path.stat().st_ino
        await store.commit(session(), entry.state)
        assert path.stat().st_ino == before
        await store.commit(session(), replace(entry.state, attempts=1))
        assert path.stat().st_ino != before


async def test_readers_see_whole_records_while_another_process_rewrites(
    shared_kind: str, tmp_path: Path, anyio_backend: str
) -> None:
    """Three hundred rotations elsewhere: every load is one generation whole, and none goes backwards."""
    from tests.store.support import opener

    async with opener(shared_kind, tmp_path)() as store:
        await store.save(session())
        seen = set()
        with Child(anyio_backend, "rewrite", store.url, ALICE, "300") as child:
            last = 0
            while last < 300 and child.process.poll() is None:
                found = await store.load(ALICE)
                assert found is not None
                generation = int(found.refresh_jwt.removeprefix("refresh-"))
                assert found.access_jwt == f"access-{generation}"
                assert generation >= last
                last = generation
                seen.add(generation)
                entry = await store.read(ALICE)  # record and state of one moment
                assert entry.session is not None
                assert reconcile(entry.session, entry.state, NOW).change is RecordChange.NONE
            assert await anyio.to_thread.run_sync(child.finish) == 0
        found = await store.load(ALICE)
    assert found is not None
    assert found.refresh_jwt == "refresh-300"
    assert len(seen) > 20
