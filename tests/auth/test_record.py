"""`SessionAuth` and the record: which one, from which store, and what is wrong with it."""

import gc
import json
from pathlib import Path

import anyio
import httpx
import pytest

from idiolectd import (
    HandleError,
    InMemoryOAuthTokenStore,
    NoSessionError,
    OAuthSession,
    RecordError,
    SessionError,
    StoreError,
    TokenRefused,
    open_store,
)
from idiolectd.did import upstream_file_name
from idiolectd.errors import ConfigError, DidError
from tests.auth.support import (
    GET_SESSION,
    House,
    Way,
)


def test_a_handle_is_looked_up_once(way: Way, house: House) -> None:
    """By reading the store; then the DID counts, whatever the record calls itself."""
    auth = house.auth(account="@Alice.test")
    assert house.fetch(way, auth).status_code == 200
    house.store(handle="renamed.test", confirmedHandle="renamed.test")
    assert house.fetch(way, auth).status_code == 200
    assert house.did in repr(auth)
    with pytest.raises(NoSessionError, match=r"nobody\.test"):
        house.fetch(way, house.auth(account="nobody.test"))


def store_another(house: House, **changes: object) -> str:
    """A second session in the store; returns its DID."""
    other = house.did[:-1] + ("z" if house.did[-1] != "z" else "y")
    (house.folder / upstream_file_name(other)).write_text(json.dumps(house.record | {"did": other} | changes))
    return other


def test_a_handle_of_several_sessions_is_refused(way: Way, house: House) -> None:
    """Both DIDs are named: it moved, and the session that it left was not looked at since."""
    other = store_another(house)
    with pytest.raises(HandleError, match=rf"{house.did}, {other}|{other}, {house.did}"):
        house.fetch(way, house.auth(account="alice.test"))


def test_a_handle_counts_once_it_is_confirmed(way: Way, house: House) -> None:
    """Whoever only says so gets no request; for the confirmed one the record may call itself anything."""
    other = store_another(house, confirmedHandle=None, pdsUrl="https://evil.test")
    assert house.fetch(way, house.auth(account="alice.test")).status_code == 200
    house.store(handle="new.test")
    assert house.fetch(way, house.auth(account="alice.test")).status_code == 200
    sent = len(house.wire.requests)
    house.path.unlink()
    for account in ("alice.test", "@Alice.test"):
        with pytest.raises(HandleError, match=f"{other} .*idiolectd refresh {account} now; or name the DID"):
            house.fetch(way, house.auth(account=account))
    assert len(house.wire.requests) == sent


def test_no_session(way: Way, house: House) -> None:
    """Nothing stored: the error says what to type, and nothing is sent."""
    house.path.unlink()
    with pytest.raises(NoSessionError, match="idiolectd login"):
        house.fetch(way, house.auth())
    assert house.wire.requests == []


def test_a_half_written_record_is_read_again(way: Way, house: House) -> None:
    """The upstream CLI writes in place: what can't be read is looked at once more, a second later."""
    house.path.write_text(json.dumps(house.record)[:100])
    saving = house.store_later(0.3)
    assert house.fetch(way, house.auth()).status_code == 200
    saving.join()


def test_a_damaged_record_is_an_error(house: House) -> None:
    """The second look finds the same."""
    house.path.write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        house.fetch("trio", house.auth())
    assert house.wire.requests == []


def test_store_trouble_is_never_no_session(way: Way, house: House) -> None:
    """The folder is another one than before: a store error."""
    auth = house.auth()
    house.fetch(way, auth)
    house.folder.rename(house.folder.with_name("away"))
    with pytest.raises(StoreError, match="check the store's path"):
        house.fetch(way, auth)
    house.folder.mkdir()
    with pytest.raises(StoreError, match="not the folder that was opened"):
        house.fetch(way, auth)


def test_a_token_that_no_header_can_hold_is_not_quoted(way: Way, house: House) -> None:
    """A line break in it would be a header of its own; the error shows nothing of it."""
    house.store(accessJwt="sec\r\nret: 1")
    with pytest.raises(SessionError, match="accessJwt") as raised:
        house.fetch(way, house.auth())
    assert "ret: 1" not in str(raised.value)


def test_what_is_wrong_is_told_at_once(house: House, tmp_path: Path) -> None:
    """A wrong account, store, origin: when the object is made."""
    with pytest.raises(DidError):
        house.auth(account="did:nonsense")
    with pytest.raises(ConfigError, match="memory:"):
        house.auth(store="memory:")
    with pytest.raises(ConfigError, match="https://HOST"):
        house.auth(also=["pds.test"])
    with pytest.raises(ConfigError, match="a list"):
        house.auth(also="https://pds.test")
    with pytest.raises(ConfigError, match="claimed"):
        house.auth(store=InMemoryOAuthTokenStore(), refresh=True)
    assert "eyJ" not in repr(house.auth())


@pytest.mark.parametrize("kind", ["memory", "files", "sqlite"])
def test_an_open_store_serves_both_kinds_of_client(kind: str, house: House, tmp_path: Path) -> None:
    """Async clients ask the open store; sync ones, in other threads, read the same place themselves."""
    urls = {
        "memory": "memory:",
        "files": f"file://{tmp_path}/files",
        "sqlite": f"sqlite://{tmp_path}/s.sqlite",
    }

    async def main() -> None:
        async with open_store(urls[kind]) as store:
            await store.save(house.session)
            auth = house.auth(store=store)
            async with httpx.AsyncClient(transport=house.wire, auth=auth) as client:
                assert (await client.get(GET_SESSION)).status_code == 200
                by_handle = house.auth(store=store, account="alice.test")
                assert (await client.get(GET_SESSION, auth=by_handle)).status_code == 200
            answer = await anyio.to_thread.run_sync(house.fetch, "sync", auth)
            assert answer.status_code == 200

    anyio.run(main, backend="asyncio")
    anyio.run(main, backend="trio")
    gc.collect()


class Foreign:
    """A store of somebody else's, which always holds the same session."""

    def __init__(self, session: OAuthSession) -> None:
        self._session = session

    async def load(self, did: str) -> OAuthSession | None:
        return self._session if did == self._session.did else None

    async def save(self, session: OAuthSession) -> None: ...

    async def delete(self, did: str) -> None: ...

    async def list_dids(self) -> list[str]:
        return [self._session.did]


def test_a_foreign_store_serves_async_clients(house: House) -> None:
    """Anything with `load`; a sync client is told why it can't, and a refusal what can't be told."""
    store = Foreign(house.session)
    auth = house.auth(store=store, patience=0)
    assert house.fetch("trio", auth).status_code == 200
    with pytest.raises(StoreError, match="an async client"):
        house.fetch("sync", auth)
    with pytest.raises(ConfigError, match="name the DID"):
        house.auth(store=store, account="alice.test")
    with pytest.raises(ConfigError, match="claimed"):
        house.auth(store=store, refresh=True)
    house.rotate()
    with pytest.raises(TokenRefused, match="can't be told"):
        house.fetch("asyncio", auth)
