"""Everything that would make a server end the session is found before a token is sent."""

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest

from idiolectd.errors import NotSent
from idiolectd.oauth import ClientRegistry, OAuthClient, SigningKey
from idiolectd.outcome import Retry, Suspended
from idiolectd.ports import AccountLocation, Prepared
from idiolectd.refresh.planner import issuer_server
from idiolectd.remedy import remedy_for
from idiolectd.state import State
from tests.oauth.support import house
from tests.parts import ISSUER, PDS
from tests.simulator import LOOPBACK_CLIENT_ID, Fault, html, new_client_key

pytestmark = pytest.mark.anyio

CLIENT = "https://client.test/metadata.json"
OURS = ("issuer", "clientId", "clientAuthMethod", "clientKeyId", "sessionStartedAt")


def registry(*keys: dict[str, str], default: str | None = None) -> ClientRegistry:
    parsed = {key["kid"]: SigningKey.parse(json.dumps(key)) for key in keys}
    return ClientRegistry([OAuthClient(CLIENT, parsed)], default)


async def test_a_session_without_our_fields_is_completed() -> None:
    """Issuer and client come from discovery and the token, and are handed up to be pinned."""
    async with house() as b:
        prepared = await b.refresher.prepare(b.session(drop=OURS))
        assert isinstance(prepared, Prepared)
    assert prepared.session.issuer == ISSUER
    assert prepared.session.client_id == LOOPBACK_CLIENT_ID
    assert prepared.session.client_auth_method == "none"
    assert prepared.session.client_key_id is None
    assert prepared.server == ISSUER


async def test_a_known_session_asks_the_issuer_only() -> None:
    """With a pin, the PDS has no say in where the refresh token goes."""
    async with house() as b:
        for _ in range(3):
            assert isinstance(await b.refresher.prepare(b.session()), Prepared)
        assert [r.url.host for r in b.transport.requests] == ["entryway.test"]


async def test_another_key_than_the_tokens_is_not_sent() -> None:
    """The server would end the session."""
    async with house() as b:
        other = b.session().dpop_private_key_jwk
        answer = await b.refresher.prepare(replace(b.session(), dpop_private_key_jwk=other))
        assert isinstance(answer, Suspended)
        assert answer.cause == "dpop_key_mismatch"
        assert b.transport.requests == []


async def test_an_unreadable_key_is_not_sent() -> None:
    """A person must repair the record."""
    async with house() as b:
        answer = await b.refresher.prepare(replace(b.session(), dpop_private_key_jwk="{SECRET"))
    assert isinstance(answer, Suspended)
    assert answer.cause == "dpop_key_unusable"
    assert "SECRET" not in repr(answer)


async def test_the_configured_client_is_used_if_the_token_is_silent() -> None:
    """An opaque token names no client."""
    async with house(ClientRegistry((), LOOPBACK_CLIENT_ID), opaque_access_tokens=True) as b:
        session = b.session(drop=OURS)
        prepared = await b.refresher.prepare(session)
        assert isinstance(prepared, Prepared)
        assert prepared.session.client_id == LOOPBACK_CLIENT_ID
    async with house(ClientRegistry(), opaque_access_tokens=True) as b:
        answer = await b.refresher.prepare(b.session(drop=OURS))
    assert isinstance(answer, Suspended)
    assert answer.cause == "client_unknown"


async def test_a_configured_client_that_the_token_contradicts_is_not_used() -> None:
    """Sending as another client would end the session."""
    async with house(ClientRegistry((), "https://other.test/c.json")) as b:
        answer = await b.refresher.prepare(b.session(drop=OURS))
    assert isinstance(answer, Suspended)
    assert answer.cause == "client_mismatch"


async def test_a_named_client_beats_the_configured_one() -> None:
    """The configuration's client is for sessions that know none."""
    async with house(ClientRegistry((), "https://other.test/c.json")) as b:
        prepared = await b.refresher.prepare(b.session())
    assert isinstance(prepared, Prepared)
    assert prepared.session.client_id == LOOPBACK_CLIENT_ID


K1, K2 = new_client_key("k1"), new_client_key("k2")
KEYS: list[tuple[tuple[dict[str, str], ...], tuple[str, ...], dict[str, Any], str | None]] = [
    # configured, dropped from the record, changed in it, the key id used (None: suspended)
    ((K1, K2), (), {}, "k1"),
    ((K2, K1), (), {}, "k1"),
    ((K2,), (), {}, None),
    ((), (), {}, None),
    ((K1,), ("clientKeyId",), {}, "k1"),
    ((K1, K2), ("clientKeyId",), {}, None),
    ((K1,), ("clientKeyId", "clientAuthMethod"), {}, "k1"),
    ((K1,), OURS, {}, "k1"),
    ((K1, K2), OURS, {}, None),
    ((), ("clientAuthMethod",), {}, None),
    ((K1,), (), {"clientAuthMethod": "client_secret_jwt"}, None),
]


@pytest.mark.parametrize(("configured", "drop", "change", "expected"), KEYS)
async def test_only_the_key_that_the_session_was_started_with_is_used(
    configured: tuple[dict[str, str], ...],
    drop: tuple[str, ...],
    change: dict[str, Any],
    expected: str | None,
) -> None:
    """Another valid key of the same client would end the session."""
    async with house(registry(*configured)) as b:
        b.sim.add_client(CLIENT, [K1, K2])
        session = b.session(drop, change, client_id=CLIENT, client_key_id="k1")
        answer = await b.refresher.prepare(session)
        if expected is None:
            assert isinstance(answer, Suspended)
            assert answer.cause in ("client_key_missing", "client_unknown")
        else:
            assert isinstance(answer, Prepared)
            assert answer.session.client_key_id == expected
            assert answer.session.client_auth_method == "private_key_jwt"


async def test_a_pds_that_names_another_issuer_than_the_token_suspends() -> None:
    """A migrated account's tokens go nowhere new."""
    async with house() as b:
        session = b.session(drop=OURS)
        b.sim.rebase(issuer="https://evil.test")
        answer = await b.refresher.prepare(session)
    assert isinstance(answer, Suspended)
    assert answer.cause == "issuer_changed"


async def test_metadata_of_another_issuer_is_not_believed() -> None:
    """Mix-up: a server may speak for itself only (RFC 8414, section 3.3)."""
    async with house() as b:
        session = b.session()
        b.sim.rebase(issuer="https://evil.test")
        answer = await b.refresher.prepare(session)
    assert isinstance(answer, Retry)
    assert answer.code == "discovery"


@pytest.mark.parametrize(
    "fault",
    [
        html(200),
        html(302),
        Fault("respond", status=404, body=b'{"error":"NotFound"}'),
        Fault("respond", status=200, body=b"[]"),
        Fault("respond", status=503, headers=[("Retry-After", "7")]),
        Fault("connect_error"),
        Fault("drop_after"),
        Fault("truncate", count=5),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_trouble_with_discovery_is_a_retry(fault: Fault) -> None:
    """A server that can't be looked up now is no verdict on a session."""
    async with house() as b:
        b.sim.faults.add(fault)
        answer = await b.refresher.prepare(b.session())
        assert isinstance(answer, Retry)
        assert answer.issuer_wide
        assert answer.retry_after == (7.0 if fault.status == 503 and fault.headers else None)


@pytest.mark.parametrize(
    "change",
    [
        {"token_endpoint": None},
        {"token_endpoint": "http://entryway.test/oauth/token"},
        {"token_endpoint": "https://10.0.0.1/oauth/token"},
        {"token_endpoint": "https://a:b@entryway.test/oauth/token"},
        {"token_endpoint": 7},
        {"issuer": "https://entryway.test/"},
        {"issuer": None},
    ],
)
async def test_metadata_that_leads_astray_is_not_followed(change: dict[str, Any]) -> None:
    """Refresh tokens go to https endpoints of a server that is what it says."""
    async with house() as b:
        session = b.session()
        document = {"issuer": ISSUER, "token_endpoint": ISSUER + "/oauth/token"} | change
        b.sim.faults.add(Fault("respond", status=200, body=json.dumps(document).encode()))
        assert isinstance(await b.refresher.prepare(session), Retry)


@pytest.mark.parametrize(
    "issuer", ["http://entryway.test", "https://entryway.test/x", "https://u@entryway.test", "x"]
)
async def test_an_issuer_that_is_no_origin_is_not_asked(issuer: str) -> None:
    """ATProto's issuers are origins; anything else in a record is damage, which a login mends."""
    async with house() as b:
        answer = await b.refresher.prepare(b.session(change={"issuer": issuer}))
        assert isinstance(answer, Suspended)
        todo = remedy_for(answer.cause, State.SUSPENDED, answer.cause)
        assert todo is not None
        assert todo.command == f"idiolectd login {answer.cause}"
        assert b.transport.requests == []


@pytest.mark.parametrize(
    "issuer", ["https://entryway.test/", "https://ENTRYWAY.test", "https://entryway.test:443"]
)
async def test_an_issuer_in_another_spelling_is_the_same(issuer: str) -> None:
    """A slash or a port too many is no other server; the record keeps its spelling."""
    async with house() as b:
        session = b.session(change={"issuer": issuer})
        prepared = await b.refresher.prepare(session)
        assert isinstance(prepared, Prepared)
        assert prepared.request.server.issuer == ISSUER
        assert prepared.session.issuer == issuer
        assert await b.refresher.locate(session) == AccountLocation(session)
        assert issuer_server(session) == ISSUER


async def test_identity_follows_a_move_within_the_issuer() -> None:
    """An account on another PDS of the same issuer keeps its session."""
    async with house() as b:
        session = b.session(change={"pdsUrl": "https://old.test"})
        assert await b.refresher.locate(session) == AccountLocation(replace(session, pds_url=PDS))
        unmoved = b.session(change={"pdsUrl": PDS + "/"})
        assert await b.refresher.locate(unmoved) == AccountLocation(unmoved)


async def test_identity_does_not_follow_to_another_issuer() -> None:
    """No token ever goes to an issuer that the session was not started with."""
    async with house() as b:
        session = b.session(change={"issuer": "https://old.test"})
        answer = await b.refresher.locate(session)
        assert isinstance(answer, Suspended)
        assert answer.cause == "issuer_changed"
        assert {r.url.host for r in b.transport.requests} == {"pds.test"}


@pytest.mark.parametrize(
    ("match", "silent"), [("/did:", "did:plc"), ("/.well-known/oauth-protected-resource", PDS)]
)
async def test_identity_that_cant_be_checked_names_who_was_silent(match: str, silent: str) -> None:
    """The directory's trouble is not the session's, nor the issuer's."""
    async with house() as b:
        b.sim.faults.add(Fault("respond", match, status=503))
        answer = await b.refresher.locate(b.session())
        assert isinstance(answer, Retry)
        assert answer.server == silent


async def test_a_pds_url_that_is_not_used_is_not_asked() -> None:
    """A record may name anything."""
    async with house() as b:
        answer = await b.refresher.prepare(b.session(OURS, {"pdsUrl": "http://pds.test"}))
        assert isinstance(answer, Retry | Suspended)
        assert b.transport.requests == []


async def test_whoever_asks_for_the_same_server_shares_the_request() -> None:
    """A thousand sessions of one issuer make one discovery, also when it fails."""
    async with house() as b:
        fault = b.sim.faults.add(Fault("delay", delay=0.05))
        sessions = [b.session() for _ in range(20)]
        answers: list[Any] = []

        async def prepare(n: int) -> None:
            answers.append(await b.refresher.prepare(sessions[n]))

        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(prepare, n)
        assert len(answers) == 20
        assert all(isinstance(answer, Prepared) for answer in answers)
        assert (len(b.transport.requests), fault.hits) == (1, 1)
        b.discovery.forget(ISSUER)
        b.sim.faults.add(Fault("respond", status=503, times=None))
        for n in range(3):
            assert isinstance(await b.refresher.prepare(sessions[n]), Retry)
        assert len(b.transport.requests) == 2


async def test_a_cancelled_lookup_does_not_take_the_others_along() -> None:
    """Whoever waited for it asks anew."""
    async with house() as b:
        b.sim.faults.add(Fault("delay", delay=10.0))
        session = b.session()
        answers: list[Any] = []

        async def second() -> None:
            answers.append(await b.refresher.prepare(session))

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as first:

                async def cancel() -> None:
                    await anyio.wait_all_tasks_blocked()
                    first.cancel()

                tasks.start_soon(cancel)
                tasks.start_soon(second)
                await b.refresher.prepare(session)
        assert isinstance(answers[0], Prepared)


async def test_a_name_that_does_not_resolve_is_known_before_the_note() -> None:
    """The token endpoint's host is looked up while nothing is written down yet."""

    async def no_such_name(host: str) -> None:
        raise NotSent("dns", f"{host}: the name does not resolve")

    async with house() as b:
        b.transport.look_up = no_such_name  # type: ignore[attr-defined]
        answer = await b.refresher.prepare(b.session())
        assert isinstance(answer, Retry)
        assert answer.code == "dns"
        assert not [request for request in b.transport.requests if request.method == "POST"]
