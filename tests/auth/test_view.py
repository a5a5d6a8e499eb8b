"""`SessionAuth` on the clients' view: no refresh token, no vain wait, and a word for the daemon."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from idiolectd import SessionAuth, TokenRefused, load_session
from idiolectd.jose import token_hash
from idiolectd.store import Standing, View, encode_entry, make_view
from tests.auth.support import LONG, House, Way, refused_tokens


@pytest.fixture(params=["file", "sqlite"])
def view(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[View]:
    scheme = str(request.param)
    made = make_view(
        f"{scheme}://{tmp_path}/run/clients{'.sqlite' if scheme == 'sqlite' else ''}", group=None
    )
    made.open()
    made.refusals.open()
    yield made
    made.close()


def publish(house: House, view: View, *, state: str = "fresh", cause: str | None = None) -> None:
    standing = Standing(state, cause, None if cause is None else "the server's words")
    view.write({house.did: encode_entry(house.session, standing)})


def words(view: View) -> list[str]:
    return [path.name for path in view.refusals.place.iterdir()]


def test_requests_are_authorized(way: Way, house: House, view: View) -> None:
    """By a record without a refresh token; named by a handle too, and after a rotation with the new token."""
    publish(house, view)
    for account in (house.did, "alice.test"):
        auth = house.auth(store=str(view.place), account=account)
        assert house.fetch(way, auth).status_code == 200
        house.rotate()
        publish(house, view)
        assert house.fetch(way, auth).status_code == 200
    assert refused_tokens(house) == 0
    assert load_session(str(view.place), house.did).refresh_jwt == ""


@pytest.mark.parametrize(("state", "typed"), [("relogin_required", "login"), ("suspended", "resume")])
def test_a_session_that_rests_is_an_error_at_once(
    way: Way, house: House, view: View, state: str, typed: str
) -> None:
    """Nobody waits for a token that will not come; the error says why, and what a person types where."""
    publish(house, view, state=state, cause="paused" if state == "suspended" else "revoked")
    house.sim.revoke_sessions(house.did)
    began = time.monotonic()
    with pytest.raises(TokenRefused, match="the server's words") as raised:
        house.fetch(way, house.auth(store=str(view.place), patience=LONG))
    assert time.monotonic() - began < LONG / 2
    assert raised.value.state == state
    assert raised.value.action is not None
    assert f"idiolectd {typed}" in raised.value.action
    assert words(view) == []  # the daemon knows


def test_a_word_of_a_newer_daemon_is_no_error_of_its_own(way: Way, house: House, view: View) -> None:
    """It is shown as it is."""
    publish(house, view, state="hibernating", cause="unheard_of")
    house.sim.revoke_sessions(house.did)
    with pytest.raises(TokenRefused, match="hibernating") as raised:
        house.fetch(way, house.auth(store=str(view.place), patience=0.1))
    assert raised.value.action is None


def test_the_daemon_is_told_once(way: Way, house: House, view: View) -> None:
    """Of a session that it believes to be well, when the record has not moved for a moment."""
    publish(house, view)
    house.sim.revoke_sessions(house.did)
    with pytest.raises(TokenRefused):
        house.fetch(way, house.auth(store=str(view.place), patience=1.5))
    assert words(view) == [f"{house.did}~{token_hash(house.record['accessJwt'])}"]


def test_a_rotation_is_no_news_for_the_daemon(way: Way, house: House, view: View) -> None:
    """Its own one least of all."""
    publish(house, view)
    auth = house.auth(store=str(view.place), patience=LONG)
    house.fetch(way, auth)
    house.rotate()
    timer = house.later(0.1, lambda: publish(house, view))
    assert house.fetch(way, auth).status_code == 200
    timer.join()
    assert words(view) == []


def test_a_store_is_told_nothing(way: Way, house: House) -> None:
    """Whoever reads the store itself leaves nothing in it."""
    house.sim.revoke_sessions(house.did)
    before = sorted(house.folder.iterdir())
    with pytest.raises(TokenRefused):
        house.fetch(way, house.auth(patience=1.5))
    assert sorted(house.folder.iterdir()) == before


def test_the_view_is_what_is_configured(
    house: House, view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URL a client reads the view; where there is none, the store."""
    scheme = "file" if view.place.is_dir() else "sqlite"
    config = tmp_path / "config.toml"
    text = f'[store]\nurl = "file://{house.folder}"\n'
    monkeypatch.setenv("IDIOLECTD_CONFIG", str(config))
    config.write_text(text)
    assert load_session(None, house.did).refresh_jwt == house.record["refreshJwt"]
    config.write_text(f'{text}[clients]\nurl = "{scheme}://{view.place}"\n')
    publish(house, view)
    assert load_session(None, house.did).refresh_jwt == ""
    assert str(view.place) in repr(SessionAuth(None, house.did))


def test_upstreams_tables_and_files_hold_it(house: House, view: View) -> None:
    """What idiolect-oauth's stores read: the same name or row, and each field that they want."""
    publish(house, view)
    if view.place.is_dir():
        text = (view.place / (house.did.replace(":", "_") + ".json")).read_text()
    else:
        with closing(sqlite3.connect(view.place)) as database:
            ((text,),) = database.execute("SELECT body_json FROM sessions WHERE did = ?", (house.did,))
    wanted = {"did", "pdsUrl", "accessJwt", "refreshJwt", "dpopPrivateKeyJwk", "issuedAt", "expiresAt"}
    assert wanted <= set(json.loads(text))
