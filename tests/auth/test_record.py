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
    Way,
    World,
)


def test_a_handle_is_looked_up_once(way: Way, world: World) -> None:
    """By reading the store; then the DID counts, whatever the record calls itself."""
    auth = world.auth(account="@Alice.test")
    assert world.fetch(way, auth).status_code == 200
    world.store(handle="renamed.test", confirmedHandle="renamed.test")
    assert world.fetch(way, auth).status_code == 200
    assert world.did in repr(auth)
    with pytest.raises(NoSessionError, match=r"nobody\.test"):
        world.fetch(way, world.auth(account="nobody.test"))


def store_another(world: World, **changes: object) -> str:
    """A second session in the store; returns its DID."""
    other = world.did[:-1] + ("z" if world.did[-1] != "z" else "y")
    (world.folder / upstream_file_name(other)).write_text(json.dumps(world.record | {"did": other} | changes))
    return other


def test_a_handle_of_several_sessions_is_refused(way: Way, world: World) -> None:
    """Both DIDs are named: it moved, and the session that it left was not looked at since."""
    other = store_another(world)
    with pytest.raises(HandleError, match=rf"{world.did}, {other}|{other}, {world.did}"):
        world.fetch(way, world.auth(account="alice.test"))


def test_a_handle_counts_once_it_is_confirmed(way: Way, world: World) -> None:
    """Whoever only says so gets no request; for the confirmed one the record may call itself anything."""
    other = store_another(world, confirmedHandle=None, pdsUrl="https://evil.test")
    assert world.fetch(way, world.auth(account="alice.test")).status_code == 200
    world.store(handle="new.test")
    assert world.fetch(way, world.auth(account="alice.test")).status_code == 200
    sent = len(world.wire.requests)
    world.path.unlink()
    for account in ("alice.test", "@Alice.test"):
        with pytest.raises(HandleError, match=f"{other} .*idiolectd refresh {account} now; or name the DID"):
            world.fetch(way, world.auth(account=account))
    assert len(world.wire.requests) == sent


def test_no_session(way: Way, world: World) -> None:
    """Nothing stored: the error says what to type, and nothing is sent."""
    world.path.unlink()
    with pytest.raises(NoSessionError, match="idiolectd login"):
        world.fetch(way, world.auth())
    assert world.wire.requests == []


def test_a_half_written_record_is_read_again(way: Way, world: World) -> None:
    """The upstream CLI writes in place: what can't be read is looked at once more, a second later."""
    world.path.write_text(json.dumps(world.record)[:100])
    saving = world.store_later(0.3)
    assert world.fetch(way, world.auth()).status_code == 200
    saving.join()


def test_a_damaged_record_is_an_error(world: World) -> None:
    """The second look finds the same."""
    world.path.write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        world.fetch("trio", world.auth())
    assert world.wire.requests == []


def test_store_trouble_is_never_no_session(way: Way, world: World) -> None:
    """The folder is another one than before: a store error."""
    auth = world.auth()
    world.fetch(way, auth)
    world.folder.rename(world.folder.with_name("away"))
    with pytest.raises(StoreError, match="check the store's path"):
        world.fetch(way, auth)
    world.folder.mkdir()
    with pytest.raises(StoreError, match="not the folder that was opened"):
        world.fetch(way, auth)


def test_a_token_that_no_header_can_hold_is_not_quoted(way: Way, world: World) -> None:
    """A line break in it would be a header of its own; the error shows nothing of it."""
    world.store(accessJwt="sec\r\nret: 1")
    with pytest.raises(SessionError, match="accessJwt") as raised:
        world.fetch(way, world.auth())
    assert "ret: 1" not in str(raised.value)


def test_what_is_wrong_is_told_at_once(world: World, tmp_path: Path) -> None:
    """A wrong account, store, origin: when the object is made."""
    with pytest.raises(DidError):
        world.auth(account="did:nonsense")
    with pytest.raises(ConfigError, match="memory:"):
        world.auth(store="memory:")
    with pytest.raises(ConfigError, match="https://HOST"):
        world.auth(also=["pds.test"])
    with pytest.raises(ConfigError, match="a list"):
        world.auth(also="https://pds.test")
    with pytest.raises(ConfigError, match="claimed"):
        world.auth(store=InMemoryOAuthTokenStore(), refresh=True)
    assert "eyJ" not in repr(world.auth())


@pytest.mark.parametrize("kind", ["memory", "files", "sqlite"])
def test_an_open_store_serves_both_kinds_of_client(kind: str, world: World, tmp_path: Path) -> None:
    """Async clients ask the open store; sync ones, in other threads, read the same place themselves."""
    urls = {
        "memory": "memory:",
        "files": f"file://{tmp_path}/files",
        "sqlite": f"sqlite://{tmp_path}/s.sqlite",
    }

    async def main() -> None:
        async with open_store(urls[kind]) as store:
            await store.save(world.session)
            auth = world.auth(store=store)
            async with httpx.AsyncClient(transport=world.wire, auth=auth) as client:
                assert (await client.get(GET_SESSION)).status_code == 200
                by_handle = world.auth(store=store, account="alice.test")
                assert (await client.get(GET_SESSION, auth=by_handle)).status_code == 200
            answer = await anyio.to_thread.run_sync(world.fetch, "sync", auth)
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


def test_a_foreign_store_serves_async_clients(world: World) -> None:
    """Anything with `load`; a sync client is told why it can't, and a refusal what can't be told."""
    store = Foreign(world.session)
    auth = world.auth(store=store, patience=0)
    assert world.fetch("trio", auth).status_code == 200
    with pytest.raises(StoreError, match="AsyncClient"):
        world.fetch("sync", auth)
    with pytest.raises(ConfigError, match="name the DID"):
        world.auth(store=store, account="alice.test")
    with pytest.raises(ConfigError, match="claimed"):
        world.auth(store=store, refresh=True)
    world.rotate()
    with pytest.raises(TokenRefused, match="can't be told"):
        world.fetch("asyncio", auth)
