"""What client programs read in place of the store: whole entries without a refresh token."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from idiolectd.errors import SessionError
from idiolectd.outcome import Cause
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import Standing, ToldRefusal, View, encode_entry, make_view, tell_refusal
from tests.store.support import ALICE, BOB, NOW, WEB_COLON, session

OpenView = Callable[[], View]


@pytest.fixture
def opening_view(shared_kind: str, tmp_path: Path) -> OpenView:
    """Opens the same view as often as it is called."""
    kind, name = ("file", "clients") if shared_kind == "files" else ("sqlite", "clients.sqlite")

    def opening() -> View:
        view = make_view(f"{kind}://{tmp_path}/run/{name}", group=None)
        view.open()
        return view

    return opening


def state_of(stored: OAuthSession, **changes: Any) -> RefreshState:
    return replace(reconcile(stored, RefreshState(), NOW).state, **changes)


def entries(view: View) -> dict[str, dict[str, Any]]:
    """What a foreign program reads, by DID."""
    if view.place.is_dir():
        texts = [path.read_text() for path in view.place.glob("*.json")]
    else:
        with closing(sqlite3.connect(f"file:{view.place}?mode=ro", uri=True)) as database:
            texts = [text for (text,) in database.execute("SELECT body_json FROM sessions")]
    return {entry["did"]: entry for entry in map(json.loads, texts)}


# One entry -----------------------------------------------------------------------------------------


def test_an_entry_is_the_record_without_its_refresh_token() -> None:
    """Every known field in upstream's spelling; no unknown one, which might hold a refresh token too."""
    stored = session(extra={"refresh_token": "refresh-1", "copy": {"of": "refresh-1"}}, dpop_nonce="n")
    text = encode_entry(stored, Standing.of(state_of(stored)))
    entry = json.loads(text)
    record = json.loads(replace(stored, extra={}).to_json())
    assert b"refresh-1" not in text
    assert entry.pop("state") == "fresh"
    key = json.loads(entry.pop("dpopPrivateKeyJwk"))
    assert key.pop("alg") == "ES256"
    assert key == json.loads(record.pop("dpopPrivateKeyJwk"))
    assert entry == record | {"refreshJwt": ""}


@pytest.mark.parametrize(
    "jwk", [None, "no JSON", "[]", '{"kty":"OKP","crv":"Ed25519"}', '{"alg":"X","crv":"P-256"}']
)
def test_a_key_that_is_not_understood_stays_as_it_is(jwk: str | None) -> None:
    """The client says what it thinks of it."""
    stored = session(dpop_private_key_jwk=jwk)
    entry = json.loads(encode_entry(stored, Standing("fresh", None)))
    assert entry["dpopPrivateKeyJwk"] == (jwk or "")


def test_an_entry_says_how_its_session_stands() -> None:
    """A dead session's with its cause and its server's words; a well one's without an old error."""
    stored = session()
    dead = state_of(stored).failed(
        State.RELOGIN_REQUIRED, "invalid_grant", "Session was revoked", NOW, cause=Cause.REVOKED
    )
    seen = OAuthSession.from_json(encode_entry(stored, Standing.of(dead)), viewed=True)
    assert Standing.in_entry(seen) == Standing("relogin_required", "revoked", "Session was revoked")
    well = replace(dead, state=State.FRESH, cause=None)
    seen = OAuthSession.from_json(encode_entry(stored, Standing.of(well)), viewed=True)
    standing = Standing.in_entry(seen)
    assert standing == Standing("fresh", None)
    assert not standing.rests


def test_an_entry_is_no_record() -> None:
    """Whoever puts it into a store is told: without a refresh token nobody can keep it alive."""
    text = encode_entry(session(), Standing("fresh", None))
    with pytest.raises(SessionError, match="refreshJwt"):
        OAuthSession.from_json(text)
    assert Standing.in_entry(session(extra={"state": "fresh"})) is None
    missing = {name: value for name, value in json.loads(text).items() if name != "refreshJwt"}
    with pytest.raises(SessionError, match="refreshJwt"):
        OAuthSession.from_json(json.dumps(missing), viewed=True)


# Both kinds of view --------------------------------------------------------------------------------


def test_entries_come_and_go(opening_view: OpenView) -> None:
    """Replaced, removed, removed again; what is removed leaves nothing behind."""
    view = opening_view()
    assert (
        view.write({ALICE: b'{"did":"%s","n":1}' % ALICE.encode(), BOB: b'{"did":"%s"}' % BOB.encode()}) == {}
    )
    view.write({ALICE: b'{"did":"%s","n":2}' % ALICE.encode(), BOB: None, WEB_COLON: None})
    view.write({BOB: None})
    assert entries(view) == {ALICE: {"did": ALICE, "n": 2}}


def test_what_an_earlier_daemon_left_is_named(opening_view: OpenView) -> None:
    """Not what was written since the view was opened: that is as the store is."""
    view = opening_view()
    view.write({did: json.dumps({"did": did}).encode() for did in (ALICE, BOB)})
    again = opening_view()
    again.write({ALICE: json.dumps({"did": ALICE}).encode()})
    assert again.left_over() == [BOB]


def test_nobody_else_reads_without_a_group(opening_view: OpenView) -> None:
    """Whatever the umask says."""
    before = os.umask(0)
    try:
        view = opening_view()
        view.write({ALICE: b"{}"})
    finally:
        os.umask(before)
    paths = [view.place, *view.place.rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []


def test_a_damaged_database_is_made_anew(tmp_path: Path) -> None:
    """It is derived: nothing is lost with it, and nobody has to do anything."""
    place = tmp_path / "clients.sqlite"
    place.write_bytes(b"no database " * 1000)
    view = make_view(f"sqlite://{place}", group=None)
    view.open()
    view.write({ALICE: json.dumps({"did": ALICE}).encode()})
    assert entries(view) == {ALICE: {"did": ALICE}}


def test_a_reader_that_holds_its_lock_holds_up_nobody(tmp_path: Path) -> None:
    """The view moves to a new file, with all that it had; whoever opens it now reads that."""
    place = tmp_path / "clients.sqlite"
    view = make_view(f"sqlite://{place}", group=None)
    view.open()
    view.write({ALICE: json.dumps({"did": ALICE}).encode()})
    with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as hostile:
        hostile.execute("BEGIN")
        assert hostile.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
        view.write({BOB: json.dumps({"did": BOB}).encode()})
        assert set(entries(view)) == {ALICE, BOB}
        assert hostile.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
        view.write({ALICE: None})
    assert set(entries(view)) == {BOB}


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """Neither through a link: its owner could put entries of his own there."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "clients").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        make_view(f"file://{tmp_path}/clients", group=None).open()
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", 65534, 65534)
        with pytest.raises(PermissionError, match="another user"):
            make_view(f"file://{tmp_path}/theirs", group=None).open()


def test_a_name_that_no_file_can_have_is_said(tmp_path: Path) -> None:
    """The others are written all the same."""
    long = "did:web:" + "x" * 300
    view = make_view(f"file://{tmp_path}/clients", group=None)
    view.open()
    refused = view.write({long: b"{}", ALICE: json.dumps({"did": ALICE}).encode()})
    assert list(refused) == [long]
    assert "too long" in refused[long]
    assert set(entries(view)) == {ALICE}


# What readers say ----------------------------------------------------------------------------------


def test_what_can_not_be_taken_away_hides_no_word(opening_view: OpenView) -> None:
    """Folders that are not empty, however many, and names that nobody understands: the words among them are heard."""
    refusals = opening_view().refusals
    refusals.open()
    for number in range(30):
        (refusals.place / f"{ALICE}~{number}").mkdir()
        (refusals.place / f"{ALICE}~{number}" / "inside").touch()
        (refusals.place / f"nobody-{number}").touch()
    tell_refusal(refusals.place, BOB, "h4sh")
    assert refusals.take(10) == [ToldRefusal(BOB, "h4sh")]
    assert refusals.take(10) == []


def test_a_word_is_taken_once(opening_view: OpenView) -> None:
    """Whoever may add to the folder says whose token is refused; nothing is left of it."""
    refusals = opening_view().refusals
    refusals.open()
    for _ in range(2):
        tell_refusal(refusals.place, WEB_COLON, "h4sh-_")
    assert refusals.take(10) == [ToldRefusal(WEB_COLON, "h4sh-_")]
    assert refusals.take(10) == []


def test_what_is_no_word_goes_away(tmp_path: Path) -> None:
    """Links, pipes, folders and names of all kinds: none is followed, opened or met again."""
    refusals = make_view(f"file://{tmp_path}/clients", group=None).refusals
    refusals.place.parent.mkdir()
    refusals.open()
    kept = tmp_path / "kept"
    kept.write_text("kept")
    (refusals.place / f"{ALICE}~a").symlink_to(kept)
    os.mkfifo(refusals.place / f"{BOB}~b")
    (refusals.place / "folder~c").mkdir()
    (refusals.place / os.fsdecode(b"\xff~")).touch()
    (refusals.place / "did:plc:~").touch()
    assert sorted(refusals.take(10), key=lambda told: told.did) == [
        ToldRefusal(ALICE, "a"),
        ToldRefusal(BOB, "b"),
    ]
    assert list(refusals.place.iterdir()) == []
    assert kept.read_text() == "kept"


def test_a_word_where_nobody_listens_is_nothing(tmp_path: Path) -> None:
    """No folder, or one that this user may not add to: the client goes on."""
    tell_refusal(tmp_path / "none", ALICE, "a")
    assert list(tmp_path.iterdir()) == []
