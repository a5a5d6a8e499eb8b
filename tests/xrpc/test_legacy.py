"""Legacy sessions against a strict server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from idiolectd.clock import parse_rfc3339
from idiolectd.errors import LoginError, NotSent
from idiolectd.http import HttpClient
from idiolectd.outcome import Ambiguous, Retry, Suspended
from idiolectd.ports import AccessTokenStatus, Answer, Arrived, Prepared, Probe, Refused
from idiolectd.session import OAuthSession
from idiolectd.xrpc import LegacyRefresher, create_session
from tests.clock import VirtualClock
from tests.oauth.support import Recording
from tests.parts import PDS, configured, parts_over
from tests.simulator import Account, Fault, Request, Simulator, SimulatorTransport, Words, html
from tests.simulator.words import DEAD

pytestmark = pytest.mark.anyio

REFRESH = "/xrpc/com.atproto.server.refreshSession"
GET_SESSION = "/xrpc/com.atproto.server.getSession"
DELETE = "/xrpc/com.atproto.server.deleteSession"
LOGIN = "/xrpc/com.atproto.server.createSession"


@dataclass
class House:
    sim: Simulator
    clock: VirtualClock
    http: HttpClient
    refresher: LegacyRefresher
    transport: Recording
    account: Account

    def session(self) -> OAuthSession:
        return OAuthSession.from_json(json.dumps(self.sim.seed_legacy(self.account)))

    async def refresh(self, session: OAuthSession) -> Answer:
        prepared = await self.refresher.prepare(session)
        assert isinstance(prepared, Prepared), prepared
        return await self.refresher.send(prepared.session, prepared)


@asynccontextmanager
async def house(**options: Any) -> AsyncIterator[House]:
    clock = VirtualClock()
    sim = Simulator(PDS, now=clock.now, **options)
    transport = Recording(SimulatorTransport(sim))
    async with parts_over(transport, configured(), clock=clock) as parts:
        refresher = parts.refreshers["bearer"]
        assert isinstance(refresher, LegacyRefresher)
        account = sim.add_account("alice.test", "SECRET-password")
        yield House(sim, clock, parts.http, refresher, transport, account)


async def test_a_refresh_brings_tokens_that_work() -> None:
    """No body, the refresh token as bearer, and times of our clock from the JWTs' lives."""
    async with house(server_clock_offset=90_000.0) as b:
        session = b.session()
        for _ in range(2):
            answer = await b.refresh(session)
            assert isinstance(answer, Arrived)
            assert answer.mismatch is None
            assert parse_rfc3339(answer.tokens.issued_at) == b.clock.now()
            assert parse_rfc3339(answer.tokens.expires_at) == b.clock.now() + 7200
            assert parse_rfc3339(answer.tokens.refresh_expires_at) == b.clock.now() + 90 * 86400
            assert answer.tokens.handle == "alice.test"
            assert answer.tokens.refresh_jwt != session.refresh_jwt
            session = session.with_tokens(answer.tokens)
        request = b.transport.requests[0]
        assert (request.content, request.headers.get("content-type")) == (b"", None)
        assert b.sim.counters.legacy_refreshes == 2


async def test_the_same_token_again_brings_the_same_next_one() -> None:
    """A lost answer is found again by asking once more, and nobody else needs to be asked first."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("drop_after", REFRESH))
        assert isinstance(await b.refresh(session), Ambiguous)
        assert b.refresher.has_grace
        assert isinstance(await b.refresh(session), Arrived)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "active"),
        ({"active": False}, "inactive"),
        ({"active": False, "status": "deactivated"}, "deactivated"),
        ({"active": True, "status": "suspended"}, "suspended"),
        ({"active": None, "status": "moved"}, "moved"),
        ({"active": None}, None),
        ({"active": "no"}, None),
        ({"active": True, "status": "active"}, "active"),
        ({"active": False, "status": "\x1b[2J"}, "inactive"),
        ({"active": False, "status": "x" * 33}, "inactive"),
        ({"active": False, "status": ["takendown"]}, "inactive"),
    ],
)
async def test_what_a_server_says_of_the_account(change: dict[str, object], status: str | None) -> None:
    """In an answer with tokens, to a refresh or a login; one word, or that it is not active."""
    async with house() as b:
        session = b.session()
        body = {**json.loads(b.sim.handle(refresh_of(session)).body), **change}
        b.sim.faults.add(Fault("respond", REFRESH, status=200, headers=[], body=json.dumps(body).encode()))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert (answer.account_status, answer.mismatch) == (status, None)
        b.sim.faults.add(Fault("respond", LOGIN, status=200, headers=[], body=json.dumps(body).encode()))
        login = await create_session(b.http, b.clock, PDS, "alice.test", "SECRET-password")
        assert login.account_status == (None if status == "active" else status)


def refresh_of(session: OAuthSession) -> Request:
    return Request("POST", PDS + REFRESH, [("authorization", f"Bearer {session.refresh_jwt}")], b"")


def error(status: int, name: str, message: str = "", **headers: str) -> Fault:
    body = json.dumps({"error": name, "message": message}).encode()
    return Fault("respond", REFRESH, status=status, headers=list(headers.items()), body=body)


def is_retry(code: str, *, wide: bool = False, after: float | None = None) -> Callable[[Answer], bool]:
    return lambda a: isinstance(a, Retry) and (a.code, a.issuer_wide, a.retry_after) == (code, wide, after)


def is_a(kind: type, cause: str | None = None) -> Callable[[Answer], bool]:
    return lambda a: isinstance(a, kind) and (cause is None or getattr(a, "cause", None) == cause)


ROWS: dict[str, tuple[Fault, Callable[[Answer], bool]]] = {
    "expired": (
        error(400, "ExpiredToken", "Token has expired"),
        is_a(Refused, "refresh_token_expired"),
    ),
    "revoked": (error(400, "ExpiredToken", "Token has been revoked"), is_a(Refused, "revoked")),
    "expired, unknown words": (error(400, "ExpiredToken", "x"), is_a(Refused, "refused")),
    "takedown": (error(401, "AccountTakedown", "x"), is_a(Refused, "account_taken_down")),
    "other": (error(400, "InvalidRequest", "x"), is_a(Refused, "refused")),
    "429": (
        error(429, "RateLimitExceeded", "x", **{"Retry-After": "30"}),
        is_retry("RateLimitExceeded", wide=True, after=30.0),
    ),
    "500": (error(500, "InternalServerError", "x"), is_retry("InternalServerError", wide=True)),
    "503": (html(503, REFRESH), is_retry("http_503", wide=True)),
    "502": (html(502, REFRESH), is_a(Ambiguous)),
    "400 html": (html(400, REFRESH), is_retry("http_400", wide=True)),
    "302": (html(302, REFRESH), is_retry("http_302", wide=True)),
    "200 html": (html(200, REFRESH), is_a(Ambiguous)),
    "200 without refreshJwt": (
        Fault("respond", REFRESH, status=200, body=b'{"accessJwt":"a"}'),
        is_a(Ambiguous),
    ),
    "connect": (Fault("connect_error", REFRESH), is_retry("connect", wide=True)),
    "drop": (Fault("drop_before", REFRESH), is_a(Ambiguous)),
}


@pytest.mark.parametrize(("fault", "expected"), ROWS.values(), ids=list(ROWS))
async def test_what_an_answer_means(fault: Fault, expected: Callable[[Answer], bool]) -> None:
    """One row of the table, and no row shows a token."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(fault)
        answer = await b.refresh(session)
        assert expected(answer), answer
        assert session.refresh_jwt not in repr(answer)


def answered(**change: Any) -> Fault:
    body = {"accessJwt": "a", "refreshJwt": "r", "did": None, "handle": "new.test"} | change
    return Fault("respond", REFRESH, status=200, body=json.dumps(body).encode())


async def test_opaque_tokens_get_a_cautious_life() -> None:
    """A server that says nothing of times is refreshed early."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(did=session.did))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert answer.mismatch is None
        assert parse_rfc3339(answer.tokens.expires_at) == b.clock.now() + 900
        assert answer.tokens.refresh_expires_at is None
        assert answer.tokens.handle == "new.test"


async def test_tokens_of_another_account_arrive_as_a_misfit() -> None:
    """They are kept, and not published."""
    async with house() as b:
        b.sim.faults.add(answered(did="did:plc:somebodyelse"))
        answer = await b.refresh(b.session())
        assert isinstance(answer, Arrived)
        assert answer.mismatch is not None


@pytest.mark.parametrize("did", [None, 7])
async def test_an_answer_that_does_not_say_whose_tokens_it_brings(did: object) -> None:
    """It is not another account's: the PDS can be asked whose the access token is, and knows."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(answered(did=did))
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        assert (answer.mismatch, answer.unconfirmed) == (None, "the answer came without did")
        assert await b.refresher.probe(session) == Probe(
            AccessTokenStatus.ACCEPTED, b.clock.now(), session.did
        )
        others = OAuthSession.from_json(json.dumps(b.sim.seed_legacy(b.sim.add_account("bob.test"))))
        asked = await b.refresher.probe(replace(session, access_jwt=others.access_jwt))
        assert asked == Probe(AccessTokenStatus.UNKNOWN, b.clock.now(), others.did)
        refused = await b.refresher.probe(replace(session, access_jwt="nonsense"))
        assert refused.status is AccessTokenStatus.REFUSED
        b.sim.faults.add(Fault("respond", GET_SESSION, status=502))
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.UNKNOWN


async def test_an_invalid_handle_is_not_taken_over() -> None:
    """The known one says more to a person."""
    async with house() as b:
        b.sim.faults.add(answered(handle="handle.invalid"))
        answer = await b.refresh(b.session())
        assert isinstance(answer, Arrived)
        assert answer.tokens.handle is None


async def test_a_pds_url_that_is_not_used_suspends() -> None:
    """A token is never sent in the clear; the record needs a person."""
    async with house() as b:
        answer = await b.refresher.prepare(replace(b.session(), pds_url="http://pds.test"))
    assert isinstance(answer, Suspended)


async def test_a_token_that_cant_be_a_header_is_its_own_sessions_trouble() -> None:
    """One damaged record does not pause the server for all others."""
    async with house() as b:
        answer = await b.refresh(replace(b.session(), refresh_jwt="SECRET\r\nX: 1"))
    assert isinstance(answer, Retry)
    assert not answer.issuer_wide
    assert "SECRET" not in repr(answer)


# Probe ---------------------------------------------------------------------------------------


async def test_the_pds_says_whether_it_takes_the_access_token() -> None:
    """While it lives, though the session was ended, and no longer."""
    async with house() as b:
        session = b.session()
        b.sim.revoke_sessions(session.did)
        probe = await b.refresher.probe(session)
        assert (probe.status, probe.server_time) == (AccessTokenStatus.ACCEPTED, b.clock.now())
        b.clock.advance(7201)
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.REFUSED
        b.sim.faults.add(Fault("connect_error"))
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.UNKNOWN


# Revoke --------------------------------------------------------------------------------------


async def test_deleting_ends_the_session() -> None:
    """And the server's refusal of the token shows it."""
    async with house() as b:
        session = b.session()
        assert await b.refresher.revoke(session) is None
        info = b.sim.session_of(session.refresh_jwt)
        assert info is not None
        assert not info.alive
        assert await b.refresher.revoke(session) is None


async def test_a_server_that_only_says_so_is_asked_again() -> None:
    """200 without deleting is found out."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("respond", DELETE, status=200))
        assert await b.refresher.revoke(session) is None
        b.sim.faults.add(Fault("respond", DELETE, None, status=200))
        assert "still takes" in str(await b.refresher.revoke(b.session()))


@pytest.mark.parametrize(
    "words", [words for words in DEAD if "bearer" in words.kinds], ids=lambda words: words.name
)
async def test_a_refusal_in_any_words_is_the_end(words: Words) -> None:
    """A server that refuses to delete and to refresh has ended the session, whatever it says."""
    async with house() as b:
        b.sim.faults.add(words.fault(DELETE))
        b.sim.faults.add(words.fault(REFRESH))
        assert await b.refresher.revoke(b.session()) is None


@pytest.mark.parametrize(
    "fault", [Fault("connect_error", DELETE), html(503, DELETE), Fault("drop_after", REFRESH)]
)
async def test_what_cant_be_known_is_said(fault: Fault) -> None:
    """A logout that may not have taken is never called done."""
    async with house() as b:
        b.sim.faults.add(fault)
        assert await b.refresher.revoke(b.session())


# Login ---------------------------------------------------------------------------------------


async def test_a_login_makes_a_record_that_refreshes() -> None:
    """In upstream's shape: Bearer, an empty key, the JWTs' lives on our clock."""
    async with house(server_clock_offset=5_000.0) as b:
        login = await create_session(b.http, b.clock, PDS + "/", "alice.test", "SECRET-password")
        session = login.session
        assert (session.did, session.pds_url, session.handle) == (b.account.did, PDS, "alice.test")
        assert (session.kind, session.token_type) == ("bearer", "Bearer")
        assert parse_rfc3339(session.expires_at) == b.clock.now() + 7200
        assert parse_rfc3339(session.refresh_expires_at) == b.clock.now() + 90 * 86400
        assert json.loads(session.to_json())["dpopPrivateKeyJwk"] == ""
        assert isinstance(await b.refresh(OAuthSession.from_json(session.to_json())), Arrived)


async def test_a_wrong_password_is_a_login_error_that_does_not_show_it() -> None:
    """With the server's own code."""
    async with house() as b:
        with pytest.raises(LoginError) as caught:
            await create_session(b.http, b.clock, PDS, "alice.test", "SECRET-wrong")
    assert caught.value.code == "AuthenticationRequired"
    assert caught.value.retry_after is None
    assert "SECRET" not in str(caught.value)


async def test_logins_are_rationed() -> None:
    """The error says how long to wait, and nothing was repeated."""
    async with house(rate_limits=True) as b:
        for _ in range(30):
            await create_session(b.http, b.clock, PDS, "alice.test", "SECRET-password")
        with pytest.raises(LoginError) as caught:
            await create_session(b.http, b.clock, PDS, "alice.test", "SECRET-password")
        assert caught.value.code == "RateLimitExceeded"
        assert (caught.value.retry_after or 0) > 0
        assert len(b.transport.requests) == 31


@pytest.mark.parametrize(
    "fault",
    [
        html(200),
        html(302),
        html(500),
        Fault("respond", status=200, body=b'{"accessJwt":"a","refreshJwt":"b"}'),
        Fault("respond", status=200, body=b'{"accessJwt":"a","refreshJwt":"b","did":"../x"}'),
        Fault("respond", status=400, body=b'{"error":"X","message":"SECRET-password"}'),
    ],
)
async def test_any_other_answer_to_a_login_is_a_login_error(fault: Fault) -> None:
    """Whatever a server says, it is one kind of error without the password."""
    async with house() as b:
        b.sim.faults.add(fault)
        with pytest.raises(LoginError) as caught:
            await create_session(b.http, b.clock, PDS, "alice.test", "SECRET-password")
    assert "SECRET" not in str(caught.value)


async def test_a_password_is_never_sent_in_the_clear() -> None:
    """Not even if the person types the URL so."""
    async with house() as b:
        with pytest.raises(NotSent):
            await create_session(b.http, b.clock, "http://pds.test", "alice.test", "SECRET-password")
        assert b.transport.requests == []


async def test_a_name_that_does_not_resolve_is_known_before_the_note() -> None:
    """Nothing can be sent to a host without an address: that is found out while nothing is written down yet."""
    async with house() as b:
        b.transport.look_up = no_such_name  # type: ignore[attr-defined]
        answer = await b.refresher.prepare(b.session())
        assert isinstance(answer, Retry)
        assert (answer.code, answer.issuer_wide) == ("dns", True)
        assert b.transport.requests == []


async def no_such_name(host: str) -> None:
    raise NotSent("dns", f"{host}: the name does not resolve")
