"""Each HTTP library's `SessionAuth` over a fake PDS: the same decisions, whatever sends."""

import json
import threading
import time
from collections.abc import Iterator
from io import BytesIO

import pytest

from idiolectd import BodyUsedUp, RefreshError, TokenRefused, TokenWithheld
from idiolectd.auth.servers import Servers
from idiolectd.testing import FakeAccount, FakePds, MemoryStore
from tests.adapters.libraries import LIBRARIES, Library, auth_of, fetch

GET_SESSION = "/xrpc/com.atproto.server.getSession"
CREATE_RECORD = "/xrpc/com.atproto.repo.createRecord"
LONG = 20.0

every_library = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture
def pds() -> Iterator[FakePds]:
    with FakePds() as made:
        yield made


@pytest.fixture
def alice(pds: FakePds) -> FakeAccount:
    return pds.add_account("alice.test")


@pytest.fixture
def store(alice: FakeAccount) -> MemoryStore:
    return MemoryStore(alice.session)


def record(alice: FakeAccount) -> bytes:
    given = {"repo": alice.did, "collection": "app.bsky.feed.post", "record": {"text": "hello"}}
    return json.dumps(given).encode()


@every_library
def test_a_request_is_signed(library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore) -> None:
    """The nonce comes with the first refusal; the body is sent again; from then on each request is one."""
    auth = auth_of(library)(store, alice.did, servers=Servers())
    assert fetch(library, auth, pds.url + CREATE_RECORD, record(alice)).status == 200
    assert fetch(library, auth, f"{pds.url}{GET_SESSION}?a=b").json["did"] == alice.did
    assert (len(alice.records), len(pds.calls), pds.refused) == (1, 2, 1)
    assert pds.calls[1].query == {"a": "b"}


@every_library
def test_an_app_password_session_is_used(library: Library, pds: FakePds) -> None:
    """A Bearer token and no proof."""
    bob = pds.add_account("bob.test", kind="bearer")
    auth = auth_of(library)(MemoryStore(bob.session), bob.did, servers=Servers())
    assert fetch(library, auth, pds.url + GET_SESSION).status == 200
    assert pds.refused == 0


@every_library
def test_a_rotation_is_waited_for(
    library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore
) -> None:
    """The token is refused, the record brings the next one, and the request is repeated with its body."""
    auth = auth_of(library)(store, alice.did, servers=Servers(), patience=LONG)
    assert fetch(library, auth, pds.url + GET_SESSION).status == 200
    alice.rotate()
    before = pds.refused

    def save() -> None:
        while pds.refused == before:
            time.sleep(0.01)
        store.put(alice.session)

    saving = threading.Thread(target=save, daemon=True)
    saving.start()
    assert fetch(library, auth, pds.url + CREATE_RECORD, record(alice)).status == 200
    saving.join()
    assert (len(alice.records), pds.refused) == (1, before + 1)


@every_library
def test_a_token_that_nobody_replaces_is_refused(
    library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore
) -> None:
    """With an error that says what to do."""
    alice.expire()
    auth = auth_of(library)(store, alice.did, servers=Servers(), patience=0)
    with pytest.raises(TokenRefused, match="refused the access token"):
        fetch(library, auth, pds.url + GET_SESSION)


@every_library
def test_other_refusals_are_the_callers(
    library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore
) -> None:
    """They reach the program as they came, and nothing is repeated."""
    auth = auth_of(library)(store, alice.did, servers=Servers())
    assert fetch(library, auth, pds.url + GET_SESSION).status == 200
    before = pds.refused
    alice.refuse("AccountTakedown")
    answer = fetch(library, auth, pds.url + GET_SESSION)
    assert (answer.status, answer.json["error"], pds.refused) == (400, "AccountTakedown", before + 1)


@every_library
def test_a_token_stays_at_its_pds(library: Library, alice: FakeAccount, store: MemoryStore) -> None:
    """Another host gets neither the token nor a request."""
    with FakePds() as other:
        auth = auth_of(library)(store, alice.did, servers=Servers())
        with pytest.raises(TokenWithheld):
            fetch(library, auth, other.url + GET_SESSION)
        assert (other.calls, other.refused) == ([], 0)


@every_library
def test_a_body_that_can_be_sent_once(
    library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore
) -> None:
    """It is sent when token and nonce are known to be good; requests, which can't ask first, says so."""
    auth = auth_of(library)(store, alice.did, servers=Servers())
    if library == "requests":
        with pytest.raises(BodyUsedUp):
            fetch(library, auth, pds.url + CREATE_RECORD, iter([record(alice)]))
    assert fetch(library, auth, pds.url + CREATE_RECORD, iter([record(alice)])).status == 200
    assert (len(alice.records), pds.refused) == (1, 1)


def test_requests_sends_a_file_again(pds: FakePds, alice: FakeAccount, store: MemoryStore) -> None:
    """From where it was."""
    auth = auth_of("requests")(store, alice.did, servers=Servers())
    assert fetch("requests", auth, pds.url + CREATE_RECORD, BytesIO(record(alice))).status == 200
    assert len(alice.records) == 1


@pytest.mark.parametrize("library", ["httpx", "httpx2", "requests"])
def test_refreshing_needs_an_async_client(
    library: Library, pds: FakePds, alice: FakeAccount, store: MemoryStore, tmp_path: object
) -> None:
    """A synchronous one is refused before anything is sent."""
    auth = auth_of(library)(f"file://{tmp_path}/store", alice.did, refresh=True)
    with pytest.raises(RefreshError, match="an async client"):
        fetch(library, auth, pds.url + GET_SESSION)
