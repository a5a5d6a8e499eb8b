"""The session record: three shapes read, one written, upstream's time helpers, no secret in sight."""

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.errors import SessionError
from idiolectd.jose import b64url_encode
from idiolectd.session import OAuthSession, Tokens
from tests.support import KEY

RECORD = {
    "did": "did:plc:z72i7hdynmk6r22z27h6tvur",
    "pdsUrl": "https://pds.example",
    "accessJwt": "access-secret",
    "refreshJwt": "refresh-secret",
    "dpopPrivateKeyJwk": KEY,
    "dpopNonce": "nonce-secret",
    "tokenType": "DPoP",
    "scope": "atproto transition:generic",
    "handle": "alice.example",
    "issuedAt": "2026-04-19T00:00:00.000Z",
    "expiresAt": "2026-04-19T01:00:00.000Z",
    "refreshExpiresAt": "2026-07-19T00:00:00Z",
}
CLI = {
    "did": "did:plc:z72i7hdynmk6r22z27h6tvur",
    "handle": "alice.example",
    "pds_url": "https://pds.example",
    "accessJwt": "access-jwt",
    "refreshJwt": "refresh-jwt",
}
NOW = datetime(2026, 4, 19, 0, 30, tzinfo=UTC)


def text(record: object) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def a_session(**changes: str | None) -> OAuthSession:
    return OAuthSession.from_json(text({**RECORD, **changes}))


def a_jwt(**claims: object) -> str:
    return ".".join(("e30", b64url_encode(json.dumps(claims).encode()), "sig"))


def test_an_upstream_record_is_written_back_byte_for_byte() -> None:
    """Reading and writing changes nothing, not even the order of fields."""
    assert OAuthSession.from_json(text(RECORD)).to_json() == text(RECORD)


def test_unknown_fields_are_kept() -> None:
    """What another program keeps in the record stays there."""
    record = {**RECORD, "theirs": {"deep": [1, None, "ä"]}}
    assert json.loads(OAuthSession.from_json(text(record)).to_json()) == record


def test_a_tokens_change_changes_nothing_else() -> None:
    """A rotation replaces the token fields and leaves the rest, unknown fields included."""
    before = OAuthSession.from_json(text({**RECORD, "theirs": 1}))
    tokens = Tokens(access_jwt="a", refresh_jwt="r", issued_at="i", expires_at="e")
    after = json.loads(before.with_tokens(tokens).to_json())
    assert after == {
        **RECORD,
        "theirs": 1,
        "accessJwt": "a",
        "refreshJwt": "r",
        "issuedAt": "i",
        "expiresAt": "e",
    }


def test_the_cli_shape_stays_readable_for_the_cli() -> None:
    """`pds_url` is read, and kept beside `pdsUrl`, also when the PDS changes."""
    session = OAuthSession.from_json(text(CLI))
    assert (session.pds_url, session.kind) == ("https://pds.example", "bearer")
    written = json.loads(replace(session, pds_url="https://new.example").to_json())
    assert written["pds_url"] == written["pdsUrl"] == "https://new.example"
    assert OAuthSession.from_json(json.dumps(written)).pds_url == "https://new.example"


def test_a_legacy_record_satisfies_upstreams_reader() -> None:
    """Upstream requires the key field and both times: they are written, empty if need be."""
    written = json.loads(OAuthSession.from_json(text(CLI)).to_json())
    assert {"did", "pdsUrl", "accessJwt", "refreshJwt", "dpopPrivateKeyJwk", "issuedAt", "expiresAt"} <= set(
        written
    )


def test_a_jwts_own_times_serve_where_the_record_has_none() -> None:
    """The CLI writes no expiry: the access token's `iat` and `exp` are used."""
    session = OAuthSession.from_json(text({**CLI, "accessJwt": a_jwt(iat=1_800_000_000, exp=1_800_007_200)}))
    assert session.issued_at == "2027-01-15T08:00:00.000Z"
    assert session.expires_at == "2027-01-15T10:00:00.000Z"


@pytest.mark.parametrize("claim", [True, "1800000000", -1, 1e300, float("nan"), None, [1]])
def test_a_jwts_nonsense_is_not_a_time(claim: object) -> None:
    """A claim that is no date counts as none."""
    session = OAuthSession.from_json(text({**CLI, "accessJwt": a_jwt(exp=claim)}))
    assert session.expires_at == ""
    assert session.is_expired(NOW)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "a list"),
        ("NaN", "not JSON"),
        ('{"did":NaN}', "not JSON"),
        ('{"accessJwt": "secret-1', "not JSON"),
        ('{"accessJwt": "secret-1"} {', "not JSON"),
        ("secret-1", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ('{"did":"\\ud800"}', "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        (text({**RECORD, "did": 7}), "did holds a number"),
        (text({**RECORD, "refreshJwt": None}), "refreshJwt is missing"),
        (text({**RECORD, "accessJwt": ""}), "accessJwt is missing"),
        (text({**RECORD, "scope": ["a"]}), "scope holds a list"),
        (text({**RECORD, "did": "alice.example"}), "not a DID"),
        (text({k: v for k, v in RECORD.items() if k != "pdsUrl"}), "pdsUrl is missing"),
    ],
)
def test_what_is_not_a_session_is_said_without_its_secrets(record: str | bytes, said: str) -> None:
    """The error names the field and what was found, never a value."""
    with pytest.raises(SessionError, match=said) as caught:
        OAuthSession.from_json(record)
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__ and caught.value.__suppress_context__}"
    assert "secret" not in chain


def test_no_secret_in_repr() -> None:
    """Tokens, key, nonce and unknown fields do not appear in a session's or its tokens' `repr`."""
    session = OAuthSession.from_json(text({**RECORD, "theirs": "their-secret"}))
    tokens = Tokens(
        access_jwt="a-secret", refresh_jwt="r-secret", issued_at="", expires_at="", dpop_nonce="n-secret"
    )
    shown = f"{session!r} {session} {tokens!r} {[session]}"
    assert "secret" not in shown
    assert "jpsQnnGQ" not in shown
    assert "alice.example" in shown


class TestTime:
    """Names and meaning of idiolect-oauth."""

    def test_expiry_is_inclusive(self) -> None:
        """At `expiresAt` exactly the token has ended."""
        session = a_session(expiresAt="2026-04-19T00:30:00Z")
        assert session.is_expired(NOW)
        assert not session.is_expired(NOW - timedelta(microseconds=1))

    def test_the_threshold_is_inclusive(self) -> None:
        """Exactly `threshold` before the end a refresh is needed."""
        session = a_session()
        assert session.needs_refresh(NOW, timedelta(minutes=30))
        assert not session.needs_refresh(NOW, timedelta(minutes=30, microseconds=-1))

    @pytest.mark.parametrize(
        "written",
        ["2026-04-19T01:00:00Z", "2026-04-19T03:00:00+02:00", "2026-04-18T20:00:00.000000-05:00"],
    )
    def test_any_offset(self, written: str) -> None:
        """RFC 3339 in any zone means the same moment, and so does any zone of `now`."""
        session = a_session(expiresAt=written)
        assert session.time_until_expiry(NOW) == timedelta(minutes=30)
        elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
        assert session.time_until_expiry(elsewhere) == timedelta(minutes=30)

    @pytest.mark.parametrize(
        "written", ["", "soon", "2026-04-19", "2026-04-19T01:00:00", "2026-13-01T00:00:00Z"]
    )
    def test_unreadable_counts_as_expired(self, written: str) -> None:
        """What is not RFC 3339 has ended, needs a refresh, and ends no refresh token."""
        session = a_session(expiresAt=written, refreshExpiresAt=written)
        assert session.is_expired(NOW)
        assert session.time_until_expiry(NOW) == timedelta(0)
        assert session.needs_refresh(NOW, timedelta(0))
        assert not session.refresh_expired(NOW)

    def test_refresh_expired(self) -> None:
        """A refresh token ends at its time, and never if none is set."""
        assert a_session(refreshExpiresAt="2026-04-19T00:30:00Z").refresh_expired(NOW)
        assert not a_session(refreshExpiresAt="2026-04-19T00:30:01Z").refresh_expired(NOW)
        assert not a_session(refreshExpiresAt=None).refresh_expired(NOW)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_whatever_others_keep_survives_a_round_trip(extra: dict[str, object]) -> None:
    """Any unknown JSON is kept through reading and writing."""
    known = json.loads(text(RECORD))
    record = {**{k: v for k, v in extra.items() if k not in {"pds_url", *_OURS}}, **known}
    assert json.loads(OAuthSession.from_json(text(record)).to_json()) == record


@given(st.text() | st.binary())
def test_any_input_is_a_session_or_a_session_error(data: str | bytes) -> None:
    """The parser raises one error only."""
    with contextlib.suppress(SessionError):
        OAuthSession.from_json(data)


_OURS = {"issuer", "clientId", "clientAuthMethod", "clientKeyId", "sessionStartedAt", "confirmedHandle"}
