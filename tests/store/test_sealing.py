"""Sealing one text, one session, one state: what opens, and what does not."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idiolectd.errors import RecordError, SealedError
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, reconcile
from idiolectd.store import AS_STORED, Keys, SealingKey, keys_of
from idiolectd.store.merge import encode_record, encode_state
from idiolectd.store.record_text import decode_record
from idiolectd.store.sealing import NO_KEYS, is_sealed
from tests.store.support import ALICE, BOB, NOW, key, session
from tests.store.vectors import SEALED

OLD, NEW = SealingKey("2026-10", b"o" * 32), SealingKey("2026-11", b"n" * 32)
KEYS = Keys([NEW, OLD])
SECRETS = ("access_jwt", "refresh_jwt", "dpop_private_key_jwk")


def secrets(of: OAuthSession) -> list[str | None]:
    return [getattr(of, name) for name in SECRETS]


@given(token=st.text(min_size=1), pds=st.text(min_size=1))
@settings(max_examples=50)
def test_what_was_sealed_comes_back(token: str, pds: str) -> None:
    """Any text; with each of two keys, by whoever has both."""
    whole = session(refresh_jwt=token, pds_url=pds, dpop_private_key_jwk=None)
    for maker in (OLD, NEW):
        sealed = Keys([maker]).seal(whole)
        assert keys_of(sealed) == {maker.id}
        assert replace(sealed, access_jwt="", refresh_jwt="") == replace(whole, access_jwt="", refresh_jwt="")
        assert KEYS.open(sealed, "x") == whole


def test_each_sealing_is_another() -> None:
    """The same secret twice shows nobody that it is the same."""
    assert not set(secrets(KEYS.seal(session()))) & set(secrets(KEYS.seal(session())))


@pytest.mark.parametrize("changed", [{"did": BOB}, {"pds_url": "https://other.example"}])
def test_a_secret_belongs_to_its_account_and_pds(changed: dict[str, Any]) -> None:
    """Whoever may write into the store can't have a token sent elsewhere."""
    with pytest.raises(SealedError):
        KEYS.open(replace(KEYS.seal(session()), **changed), "x")


def test_a_secret_belongs_to_its_field() -> None:
    """A refresh token does not become an access token, nor a state's text a record's."""
    sealed = KEYS.seal(session())
    with pytest.raises(SealedError):
        KEYS.open(replace(sealed, access_jwt=sealed.refresh_jwt), "x")
    with pytest.raises(SealedError):
        KEYS.open_state(RefreshState(last_good=sealed.refresh_jwt), ALICE)


def test_any_other_field_may_change() -> None:
    """As a foreign program does that loads a record, sets a nonce, and saves it."""
    sealed = replace(KEYS.seal(session()), dpop_nonce="new", handle="other.example", expires_at="")
    assert secrets(KEYS.open(sealed, "x")) == secrets(session())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (NO_KEYS, "clients' view"),
        (Keys([SealingKey("2026-12", b"n" * 32)]), "store.keys has 2026-12 only"),
        (Keys([SealingKey("2026-11", b"x" * 32)]), "another key"),
    ],
)
def test_without_the_right_key(keys: Keys, said: str) -> None:
    """The error says what to do, and nothing of the record."""
    with pytest.raises(SealedError, match=said) as caught:
        keys.open(KEYS.seal(session()), "the record")
    assert "refresh-1" not in str(caught.value)
    assert str(caught.value).startswith("the record: ")


def test_whoever_only_looks_needs_no_key() -> None:
    """What is sealed stays so, and the state speaks of the record as it is."""
    state = reconcile(session(), RefreshState(), NOW).state.failed(State.RETRYING, "x", "y", NOW)
    sealed, sealed_state = KEYS.seal(session()), KEYS.seal_state(state, ALICE)
    found = AS_STORED.open(sealed, "x")
    assert found == sealed
    looked = reconcile(found, AS_STORED.open_state(sealed_state, ALICE, found), NOW)
    assert looked.state.state is State.RETRYING


@pytest.mark.parametrize("by", [1, 2, 0x20, 0x80, 0xFF])
def test_no_damage_makes_another_token(by: int) -> None:
    """Each byte of a sealed record changed: an error, or the secrets as they were."""
    text = encode_record(session(dpop_nonce=None), place="x", keys=KEYS)
    for at in range(len(text)):
        damaged = text[:at] + bytes([text[at] ^ by]) + text[at + 1 :]
        try:
            found = decode_record(damaged, place="x", did=ALICE, keys=KEYS)
        except (RecordError, SealedError):
            continue
        for name in SECRETS:
            assert getattr(found, name) in (getattr(session(), name), None), (at, name)


def test_every_character_of_a_sealed_text_counts() -> None:
    """Whatever stands in its place, also what base64 would read as the same."""
    sealed = KEYS.seal(session()).refresh_jwt
    for at in range(len(sealed)):
        for other in "A_-9:=\n {":
            damaged = sealed[:at] + other + sealed[at + 1 :]
            if damaged != sealed:
                with pytest.raises(SealedError):
                    KEYS.open(session(refresh_jwt=damaged), "x")


@pytest.mark.parametrize(
    "text", ["access-1", "a:b:c:d", key(), "eyJ.eyJ.sig", "", "https://pds.example:2583/x"]
)
def test_what_was_never_sealed_is_clear(text: str) -> None:
    """Tokens, keys and what else stands in records."""
    assert not is_sealed(text)


def test_a_state_that_did_not_change_keeps_its_text() -> None:
    """It is not written again; with another key, or another token, it is."""
    state = reconcile(session(), RefreshState(), NOW).state
    text = encode_state(state, ALICE, KEYS)
    assert b"refresh-1" not in text
    assert encode_state(state, ALICE, KEYS, text) == text
    assert encode_state(state, ALICE, Keys([OLD, NEW]), text) != text
    other = reconcile(session(generation=2), RefreshState(), NOW).state
    assert KEYS.open_state(RefreshState.from_json(encode_state(other, ALICE, KEYS, text)), ALICE) == other


def test_all_that_holds_tokens_in_a_state_is_sealed() -> None:
    """Not one of them anywhere in its text."""
    whole = session().to_json()
    state = RefreshState(last_good=whole, withheld=whole, displaced=whole, previous_refresh_token="refresh-1")
    text = encode_state(state, ALICE, KEYS)
    assert b"refresh-1" not in text
    assert json.loads(text).keys() == {"version", "last_good", "withheld", "displaced", "predecessor"}
    assert KEYS.open_state(RefreshState.from_json(text), ALICE) == state


def test_the_vector_opens() -> None:
    """What `docs/vectors.json` shows is what this version opens."""
    keys = Keys([SealingKey(SEALED["keyId"], bytes.fromhex(SEALED["keyHex"]))])
    found = keys.open(session(SEALED["did"], pds_url=SEALED["pdsUrl"], refresh_jwt=SEALED["sealed"]), "x")
    assert found.refresh_jwt == SEALED["open"]
    with pytest.raises(SealedError):
        keys.open(replace(found, refresh_jwt=SEALED["sealed"], pds_url="https://other.example"), "x")
