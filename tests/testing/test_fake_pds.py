"""The PDS for other people's tests refuses what a real one refuses."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from idiolectd import NoSessionError, SessionAuth, auth_headers
from idiolectd.oauth import DpopKey, SigningKey
from idiolectd.testing import Call, FakeAccount, FakePds, MemoryStore

GET_SESSION = "/xrpc/com.atproto.server.getSession"


@pytest.fixture
def pds() -> Iterator[FakePds]:
    with FakePds() as made:
        yield made


@pytest.fixture
def alice(pds: FakePds) -> FakeAccount:
    return pds.add_account("alice.test")


def ask(url: str, headers: dict[str, str]) -> tuple[int, str | None]:
    """Status and error of a GET."""
    answer = httpx.get(url, headers=headers, trust_env=False)
    return answer.status_code, answer.json().get("error")


def proved(alice: FakeAccount, **changes: Any) -> dict[str, str]:
    """The headers of a GET of `GET_SESSION`, with a proof that differs."""
    session = alice.session
    given: dict[str, Any] = {
        "htm": "GET",
        "htu": f"{session.pds_url}{GET_SESSION}",
        "iat": time.time(),
        "access_token": session.access_jwt,
        **changes,
    }
    key = given.pop("key", None) or DpopKey.from_jwk_json(session.dpop_private_key_jwk)
    return {"Authorization": f"DPoP {session.access_jwt}", "DPoP": key.proof(**given)}


def test_what_is_right_is_answered(pds: FakePds, alice: FakeAccount) -> None:
    assert ask(pds.url + GET_SESSION, proved(alice, nonce=pds.nonce)) == (200, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": "POST"},
        {"htu": "http://127.0.0.1/elsewhere"},
        {"iat": time.time() - 4000},
        {"access_token": "another"},
        {"access_token": None},
    ],
)
def test_a_proof_for_another_request_is_refused(
    pds: FakePds, alice: FakeAccount, changes: dict[str, Any]
) -> None:
    refused = (401, "invalid_dpop_proof")
    assert ask(pds.url + GET_SESSION, proved(alice, nonce=pds.nonce, **changes)) == refused


def test_a_proof_is_good_once(pds: FakePds, alice: FakeAccount) -> None:
    headers = proved(alice, nonce=pds.nonce)
    assert ask(pds.url + GET_SESSION, headers) == (200, None)
    assert ask(pds.url + GET_SESSION, headers) == (401, "invalid_dpop_proof")


def test_a_signature_is_checked(pds: FakePds, alice: FakeAccount) -> None:
    headers = proved(alice, nonce=pds.nonce)
    signed, _, _ = headers["DPoP"].rpartition(".")
    _, _, signature = proved(alice, nonce=pds.nonce)["DPoP"].rpartition(".")
    assert ask(pds.url + GET_SESSION, headers | {"DPoP": f"{signed}.{signature}"})[1] == "invalid_dpop_proof"
    assert ask(pds.url + GET_SESSION, headers | {"DPoP": "nonsense"})[1] == "invalid_dpop_proof"


def test_a_token_is_bound_to_its_key(pds: FakePds, alice: FakeAccount) -> None:
    key = DpopKey.from_jwk_json(SigningKey.generate().to_private_jwk())
    assert ask(pds.url + GET_SESSION, proved(alice, nonce=pds.nonce, key=key)) == (401, "invalid_token")


def test_a_session_is_used_as_what_it_is(pds: FakePds, alice: FakeAccount) -> None:
    """A DPoP token is no Bearer token, nor the other way round; no token is none."""
    bob = pds.add_account("bob.test", kind="bearer")
    for headers in ({}, {"Authorization": f"Bearer {alice.session.access_jwt}"}):
        assert ask(pds.url + GET_SESSION, headers) == (401, "invalid_token")
    as_dpop = replace(alice.session, access_jwt=bob.session.access_jwt)
    assert ask(pds.url + GET_SESSION, auth_headers(as_dpop, "GET", pds.url + GET_SESSION))[0] == 400


def test_a_new_nonce_is_asked_for(pds: FakePds, alice: FakeAccount) -> None:
    """Also in the middle of things: clients learn it from the refusal."""
    auth = SessionAuth(MemoryStore(alice.session), alice.did)
    with httpx.Client(auth=auth, base_url=pds.url, trust_env=False) as http:
        for nonce in ("one", "two", None):
            pds.nonce = nonce
            assert http.get(GET_SESSION).is_success
    assert pds.refused == 2


def test_methods_are_the_tests_own(pds: FakePds, alice: FakeAccount) -> None:
    """An object, or what makes one of the call; what there is not is said."""

    def told(call: Call) -> dict[str, Any]:
        return {"told": call.json()["text"], "by": call.account.handle}

    pds.methods |= {"test.tell": told, "test.list": {"items": []}}
    with httpx.Client(
        auth=SessionAuth(MemoryStore(alice.session), alice.did), base_url=pds.url, trust_env=False
    ) as http:
        assert http.post("/xrpc/test.tell", json={"text": "x"}).json() == {"told": "x", "by": "alice.test"}
        assert http.get("/xrpc/test.list").json() == {"items": []}
        assert http.get("/xrpc/test.nothing").status_code == 501
        body = {"repo": "did:plc:other", "collection": "a.b.c", "record": {}}
        assert http.post("/xrpc/com.atproto.repo.createRecord", json=body).status_code == 400


def test_a_session_that_is_removed_is_gone(pds: FakePds, alice: FakeAccount) -> None:
    store = MemoryStore(alice.session)
    store.remove(alice.did)
    with (
        httpx.Client(auth=SessionAuth(store, alice.did), trust_env=False) as http,
        pytest.raises(NoSessionError),
    ):
        http.get(pds.url + GET_SESSION)


def test_accounts_need_a_started_server() -> None:
    with pytest.raises(RuntimeError, match="start"):
        FakePds().add_account("alice.test")


@pytest.mark.anyio
async def test_a_filled_store_is_a_store(alice: FakeAccount) -> None:
    """What is put is what is loaded, and listed; saving another way works too."""
    store = MemoryStore(alice.session)
    assert await store.load(alice.did) == alice.session
    await store.save(alice.rotate())
    assert (await store.load(alice.did), await store.list_dids()) == (alice.session, [alice.did])
    assert json.loads(alice.session.to_json())["pdsUrl"] == alice.session.pds_url
