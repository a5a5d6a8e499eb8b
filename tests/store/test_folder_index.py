"""What a folder's index spares, and that it never stands in the way of what the files say."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from idiolectd.did import upstream_file_name
from idiolectd.ports import FULL_BATCH, FirstPlan, Overview, ScheduleEntry
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import FilesystemOAuthTokenStore
from idiolectd.store.files import folder_index
from tests.store.support import ALICE, BOB, NOW, rotated, session

pytestmark = pytest.mark.anyio
opened = FilesystemOAuthTokenStore.open


def planned(did: str, at: float) -> ScheduleEntry:
    return ScheduleEntry(at, did, at + 60, "https://issuer.example")


async def kept(root: Path, **states: RefreshState) -> dict[str, ScheduleEntry]:
    """What a daemon leaves behind: the sessions of these DIDs, each with a state and a schedule entry."""
    entries = {}
    async with opened(root) as store, store.watch() as watch:
        await watch.wait_changed()
        for number, (name, state) in enumerate(states.items()):
            did = f"did:plc:{name}"
            await store.save(session(did, handle=f"{name}.example"))
            entries[did] = planned(did, NOW + 100 + number)
            await store.commit(session(did, handle=f"{name}.example"), state, due=entries[did])
        await watch.wait_changed()
    return entries


async def named_first(root: Path) -> tuple[set[str], list[ScheduleEntry]]:
    """What the watch of a new process names at first, and the schedule that it begins with."""
    async with opened(root) as store, store.watch() as watch:
        return set(await watch.wait_changed()), await store.due(NOW + 1000, limit=10)


async def test_who_was_looked_at_need_not_be_read_again(tmp_path: Path) -> None:
    """A new process has the schedule of the last one, and names nobody."""
    entries = await kept(tmp_path, a=RefreshState(), b=RefreshState())
    assert await named_first(tmp_path) == (set(), [*entries.values()])


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def restored(path: Path) -> None:
    """A copy with all its times, as a backup brings it back."""
    found, copy = path.stat(), path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    copy.rename(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [rewritten, restored, removed])
@pytest.mark.parametrize("which", ["record", "state"])
async def test_whatever_changed_meanwhile_is_named(
    tmp_path: Path, which: str, change: Callable[[Path], None]
) -> None:
    """Of a record or a state, by any program: the session is looked at, the others are not."""
    await kept(tmp_path, a=RefreshState(), b=RefreshState())
    folder = tmp_path if which == "record" else tmp_path / ".idiolectd" / "state"
    change(folder / upstream_file_name("did:plc:a"))
    named, entries = await named_first(tmp_path)
    assert named == {"did:plc:a"}
    assert [entry.did for entry in entries] == ["did:plc:b"]


@pytest.mark.parametrize("damage", ["missing", "cut short", "another version", "nonsense", "a folder"])
async def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    """What it does not tell is looked at; the next process has a whole one."""
    entries = await kept(tmp_path, a=RefreshState(), b=RefreshState())
    index = tmp_path / ".idiolectd" / "index"
    text = index.read_bytes()
    index.unlink()
    if damage == "cut short":
        index.write_bytes(text[:-20])
    elif damage == "another version":
        index.write_bytes(text.replace(b"1]", b"9]", 1))
    elif damage == "nonsense":
        index.write_bytes(text.splitlines(keepends=True)[0] + b"\0\xff[[[\n{}\n[1,2]\n" + b"[" * 100_000)
    elif damage == "a folder":
        index.mkdir()
    named, _ = await named_first(tmp_path)
    assert named == ({"did:plc:b"} if damage == "cut short" else entries.keys())
    async with opened(tmp_path) as store, store.watch() as watch:
        for did in await watch.wait_changed():
            await store.read(did)
            store.schedule(did, entries[did])
        assert await store.due(NOW + 1000, limit=10) == [*entries.values()]
    if damage in ("missing", "cut short"):
        assert await named_first(tmp_path) == (set(), [*entries.values()])


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    """After very many refreshes it holds a few lines for each session."""
    index = folder_index.FolderIndex(tmp_path)
    for number in range(25):
        for _ in range(1000):
            index.add(folder_index.Look("a.json", str(number), ALICE, "", ""))
        index.flush({"a.json"})
    assert len((tmp_path / "index").read_bytes().splitlines()) < 20_000
    assert index.looks({"a.json": "24"})["a.json"].did == ALICE


async def test_what_needs_a_look_is_known_without_reading(tmp_path: Path) -> None:
    """Totals, needy ones and handles come from the index; what it does not know is read, or counts as unseen."""
    dead = RefreshState(state=State.RELOGIN_REQUIRED)
    await kept(tmp_path, a=RefreshState(), b=RefreshState(), c=dead)
    (tmp_path / upstream_file_name("did:plc:new")).write_text(session("did:plc:new").to_json())
    async with opened(tmp_path, looking=True) as store:
        found = await store.overview(NOW + 100.5, limit=10)
        dids = ["did:plc:c", "did:plc:new", "did:plc:a"]
        assert found == Overview(4, {"relogin_required": 1, "": 1}, 1, dids)
        assert (await store.called("b.example")).dids == ["did:plc:b"]
        assert await store.list_dids() == [f"did:plc:{name}" for name in ("a", "b", "c", "new")]
    async with opened(tmp_path) as store:  # nobody watches, so the index does not learn of it
        await store.commit(session("did:plc:b", handle="b.example"), dead)
    async with opened(tmp_path, looking=True) as store:
        found = await store.overview(NOW, limit=10)
        assert found is not None
        assert found.needy == {"relogin_required": 2, "": 1}


async def test_a_crowd_is_read_soonest_expiry_first(tmp_path: Path) -> None:
    """Sessions that another program stored get their first states page by page, and are then no news."""
    count = FULL_BATCH + 100

    def stored(number: int) -> OAuthSession:
        return session(f"did:plc:{number:04d}", generation=(number * 7919) % count)

    for number in range(count):
        (tmp_path / upstream_file_name(stored(number).did)).write_text(stored(number).to_json())
    (tmp_path / upstream_file_name(BOB)).write_text("{")
    ends: list[str] = []
    async with opened(tmp_path) as store, store.watch() as watch:
        async with store.new_sessions() as pages:
            assert pages is not None
            assert await watch.wait_changed() == []
            async for page in pages:
                ends += [each.session.expires_at for each in page]
                first = [reconcile(each.session, RefreshState(), NOW).state for each in page]
                plans = [
                    FirstPlan(each, state, planned(each.session.did, NOW))
                    for each, state in zip(page, first, strict=True)
                ]
                changed = replace(page[0], text=page[0].text + b"\n")
                assert await store.commit_first([replace(plans[0], found=changed)]) == []
                assert await store.commit_first(plans) == [each.session.did for each in page]
                assert await store.commit_first(plans) == []
        assert ends == sorted(ends)
        assert len(ends) == count
        assert await watch.wait_changed() == [BOB]
        async with store.new_sessions() as pages:
            assert pages is None
        read = await store.read("did:plc:0000")
        assert read.session is not None
        new, state = rotated(read.session, read.state, 2000)
        await store.commit(read.session, state, tokens=new)
    assert (await named_first(tmp_path))[0] == {BOB}


def test_its_lines_are_json(tmp_path: Path) -> None:
    """One look a line, after a line that names the version."""
    index = folder_index.FolderIndex(tmp_path)
    index.add(folder_index.Look("a.json", "1.2.3.4.5.6", ALICE, "", "").planned(planned(ALICE, NOW)))
    index.flush({"a.json"})
    header, line = (tmp_path / "index").read_text().splitlines()
    assert json.loads(header)[1] == 1
    assert json.loads(line) == [
        "a.json",
        "1.2.3.4.5.6",
        ALICE,
        "",
        "",
        NOW,
        NOW + 60,
        "https://issuer.example",
    ]
