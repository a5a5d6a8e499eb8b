"""Copies of dataclasses are those that `dataclasses` would make."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from idiolectd.copying import built, replace
from idiolectd.session import OAuthSession


@dataclass(frozen=True)
class Pair:
    left: int
    right: int = 2

    @cached_property
    def total(self) -> int:
        return self.left + self.right


def test_a_copy_is_another_object_with_the_changes() -> None:
    """What was worked out of the original is worked out anew."""
    one = Pair(1)
    assert one.total == 3
    other = replace(one, left=5)
    assert other == dataclasses.replace(one, left=5) == built(Pair, {"left": 5, "right": 2})
    assert (other.total, one.total) == (7, 3)


def test_a_session_keeps_the_hash_of_what_it_keeps() -> None:
    """And no hash of another token or key."""
    one = OAuthSession(did="did:plc:a", pds_url="https://pds.test", access_jwt="a", refresh_jwt="r")
    hashed = one.refresh_token_hash
    assert vars(replace(one, handle="b.test"))["refresh_token_hash"] == hashed
    assert replace(one, refresh_jwt="s").refresh_token_hash != hashed
    jwk = '{"kty":"EC","crv":"P-256","x":"a","y":"b"}'
    assert one.dpop_thumbprint is None
    assert replace(one, dpop_private_key_jwk=jwk).dpop_thumbprint is not None


def test_every_derived_property_names_a_field() -> None:
    """A misspelt one would keep the hash of another token."""
    names = {field.name for field in dataclasses.fields(OAuthSession)}
    assert set(OAuthSession.derived_from.values()) <= names
    assert all(isinstance(vars(OAuthSession)[name], cached_property) for name in OAuthSession.derived_from)
