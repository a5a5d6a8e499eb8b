"""Each form is read as its program writes it, and what is no session is named and never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from atproto import Session  # type: ignore[import-untyped]  # it ships no py.typed
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.moving import (
    FORMS,
    Entry,
    Found,
    Unusable,
    form_named,
    read_sessions,
    read_source,
    with_columns,
)
from idiolectd.moving.entries import entries_of_rows, entries_of_text
from idiolectd.oauth import AuthorizationServer
from idiolectd.session import OAuthSession
from idiolectd.url import Url
from tests.machines.profiles import runs
from tests.moving import peers

SERVER = AuthorizationServer(
    issuer=peers.ISSUER,
    token_endpoint=Url.parse(f"{peers.ISSUER}/oauth/token"),
    revocation_endpoint=Url.parse(f"{peers.ISSUER}/oauth/revoke"),
)
GOLDEN = Path(__file__).parents[1] / "store" / "golden"


def sessions(source: Any, name: str = "source") -> list[OAuthSession]:
    """The sessions of a text or JSON value, all of whose entries are some."""
    text = source if isinstance(source, str) else json.dumps(source)
    found = read_sessions(entries_of_text(text.encode(), name))
    assert all(isinstance(one, Found) for one in found), found
    return [one.session for one in found if isinstance(one, Found)]


def why(source: Any) -> str:
    """Why the only entry of a source is no session."""
    text = source if isinstance(source, str) else json.dumps(source)
    (found,) = read_sessions(entries_of_text(text.encode(), "source"))
    assert isinstance(found, Unusable)
    return found.why


def is_oauth(session: OAuthSession) -> None:
    assert (session.did, session.pds_url, session.issuer) == (peers.DID, peers.PDS, peers.ISSUER)
    assert (session.access_jwt, session.refresh_jwt) == (peers.ACCESS, "ref-0123")
    assert (session.client_id, session.kind) == (peers.CLIENT, "dpop")
    assert session.expires_at.startswith("2025-06-15T16:06:40")
    key = json.loads(session.dpop_private_key_jwk or "")
    assert {name: key[name] for name in peers.JWK} == peers.JWK


@pytest.mark.parametrize(
    "source",
    [
        {peers.DID: peers.node()},
        {peers.DID: json.dumps(peers.node())},
        peers.node(),
        [peers.node()],
        peers.node(authMethod="legacy"),
        peers.node(dpopJwk={"jwk": peers.JWK}),
        peers.indigo(peers.multibase()),
        peers.indigo(peers.multibase(), scopes="atproto,transition:generic"),
        peers.record(),
        peers.record(dpopPrivateKeyJwk=json.dumps(peers.JWK), issuer=peers.ISSUER),
    ],
)
def test_oauth_sessions(source: Any) -> None:
    """The same session, as each program keeps it."""
    (session,) = sessions(source)
    is_oauth(session)


def test_a_confidential_client_keeps_its_key_id() -> None:
    """What says how the client authenticates is taken over; "legacy" says that nobody knows."""
    (session,) = sessions(peers.node(authMethod={"method": "private_key_jwt", "kid": "key-1"}))
    assert (session.client_auth_method, session.client_key_id) == ("private_key_jwt", "key-1")
    (session,) = sessions(peers.node(authMethod="legacy"))
    assert session.client_auth_method is None


@pytest.mark.parametrize("columns", [("key", "value"), ("did", "session"), ("id", "data")])
def test_a_table_of_node_sessions(tmp_path: Path, columns: tuple[str, str]) -> None:
    """Node programs keep key and JSON in a table of their database, beside other tables."""
    row = dict(zip(columns, (peers.DID, json.dumps(peers.node())), strict=True))
    tables: dict[str, list[dict[str, Any]]] = {"auth_session": [row], "users": [{"name": "a", "age": 7}]}
    found = read_sessions(read_source(peers.database(tmp_path / "app.db", tables)))
    (session,) = [one.session for one in found if isinstance(one, Found)]
    is_oauth(session)
    assert [one.form for one in found if isinstance(one, Unusable)] == [None]


def test_the_cookbooks_database(tmp_path: Path) -> None:
    """Its sessions are read, its authorization requests are none."""
    found = read_sessions(read_source(peers.cookbook(tmp_path / "demo.sqlite")))
    (session,) = [one.session for one in found if isinstance(one, Found)]
    is_oauth(session)
    assert session.handle == "bot.example"


@pytest.mark.parametrize("source", ["cli_session.json", "fs", "sessions.sqlite"])
def test_upstreams_own_stores(source: str) -> None:
    """The folder, the database and the CLI's file of idiolect-oauth are read, and nothing is left beside them."""
    before = sorted(GOLDEN.rglob("*"))
    found = [one for one in read_sessions(read_source(GOLDEN / source)) if one.form is not None]
    assert found
    for one in found:
        assert one.form == "record"
    assert sorted(GOLDEN.rglob("*")) == before


@pytest.mark.parametrize("endpoint", [True, False])
def test_session_strings(endpoint: bool) -> None:
    """One a line, with and without the endpoint; the SDK reads what is written of them."""
    (session,) = sessions(f"\n{peers.session_string(endpoint=endpoint)}\n")
    assert (session.did, session.kind, session.handle) == (peers.DID, "bearer", "bot.example")
    assert session.pds_url == (peers.PDS if endpoint else "https://bsky.social")
    encode = form_named("string").encode
    assert encode is not None
    sdks = Session.decode(encode(session, None))
    assert (sdks.did, sdks.access_jwt, sdks.refresh_jwt) == (peers.DID, peers.LEGACY, peers.LEGACY + "r")
    assert sdks.pds_endpoint == session.pds_url
    assert sessions(sdks.encode()) == [session]


def test_goats_session() -> None:
    """Its tokens are read; if an app password lies beside them, a login is named as the better way."""
    (found,) = read_sessions(
        entries_of_text(json.dumps(peers.goat(password="x-y")).encode(), "auth-session.json")
    )
    assert isinstance(found, Found)
    assert (found.session.kind, found.session.refresh_jwt) == ("bearer", peers.LEGACY + "r")
    assert found.advice is not None
    assert f"idiolectd login {peers.DID} --app-password" in found.advice
    assert "x-y" not in found.advice
    assert "--app-password" in why({**peers.goat(password="x"), "access_token": ""})


def test_columns_of_ones_own() -> None:
    """A CSV with other names, each named on the command line."""
    names = {"did": "account", "access_token": "at", "refresh_token": "rt", "dpop_key": "jwk"}
    key = json.dumps(peers.JWK).replace('"', '""')
    text = f'account,pds_url,at,rt,jwk\n{peers.DID},{peers.PDS},{peers.ACCESS},ref-0123,"{key}"\n'
    entries = entries_of_text(text.encode(), "bots.csv")
    (found,) = read_sessions(entries, with_columns(names))
    assert isinstance(found, Found)
    is_oauth(found.session)
    (found,) = read_sessions(entries)
    assert isinstance(found, Unusable)
    assert "--column" in found.why


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "is empty"),
        ("hello", "neither JSON"),
        ({peers.OTHER: peers.node()}, f"kept under {peers.OTHER}"),
        (peers.node(dpopJwk={"kty": "oct"}), "DPoP key"),
        (peers.node(tokenSet=[]), "tokenSet is no object"),
        (peers.node(tokenSet={"sub": peers.DID}), "no refresh token"),
        (peers.indigo(peers.multibase()[:-1]), "multibase"),
        (peers.indigo("z" + "1" * 100_000), "multibase"),
        (peers.record(pdsUrl="puffball"), "URL of its PDS"),
        ("a:::b", "four or five parts"),
        ([7], "not a JSON object"),
        ({"some": "thing"}, "no session of any known form"),
    ],
)
def test_what_is_no_session_is_named(source: Any, reason: str) -> None:
    """Each with a reason that shows no token."""
    assert reason in why(source)


def test_of_two_sessions_of_one_account_the_first_is_taken() -> None:
    """Which of the two lives, nobody can tell from the source."""
    found = read_sessions(entries_of_text(json.dumps([peers.node(), peers.record()]).encode(), "two"))
    assert [type(one) for one in found] == [Found, Unusable]


@pytest.mark.parametrize("name", ["record", "node", "indigo"])
def test_what_is_exported_is_read_again(name: str) -> None:
    """Round trip of an OAuth session through each form that can be written."""
    (session,) = sessions(peers.node(access=peers.ACCESS))
    encode = form_named(name).encode
    assert encode is not None
    written = json.loads(json.dumps(encode(session, SERVER)))
    (again,) = sessions(written)
    is_oauth(again)
    assert encode(again, SERVER) == written


# Anything that JSON holds, with the names that the forms look for among its keys.
NAMES = st.sampled_from(
    sorted(
        {
            *peers.node(),
            *peers.node()["tokenSet"],
            *peers.indigo(""),
            *peers.record(),
            *peers.goat(),
            *peers.JWK,
        }
    )
)
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([peers.DID, peers.PDS]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=8),
    max_leaves=20,
)
GOOD: list[Callable[[], dict[str, Any]]] = [
    peers.node,
    peers.record,
    peers.goat,
    lambda: peers.indigo(peers.multibase()),
    lambda: {"session string": peers.session_string()},
]


@runs(100)
@given(st.binary() | st.text().map(str.encode) | JSONS.map(lambda value: json.dumps(value).encode()))
def test_any_text_is_read_or_refused(data: bytes) -> None:
    """Whatever a file holds, each entry is a session or has a reason."""
    for one in read_sessions(entries_of_text(data, "file")):
        assert isinstance(one, Found) or one.why


@runs(100)
@given(st.sampled_from(GOOD), NAMES, JSONS | st.binary())
def test_a_bent_field_is_no_bug(good: Callable[[], dict[str, Any]], name: str, value: Any) -> None:
    """A good session with one field of another kind is a session or has a reason, in every form."""
    fields = {**good(), name: value}
    if isinstance(fields.get("tokenSet"), dict):
        fields["tokenSet"][name] = value
    for form in (None, *FORMS):
        (found,) = read_sessions([Entry("here", fields)], form)
        assert isinstance(found, Found) or found.why
    assert read_sessions(entries_of_rows([fields], "table"))
