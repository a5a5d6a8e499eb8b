"""What the PDS says of an access token, and ending a session at the server."""

import json

import httpx
import pytest

from idiolectd.oauth import ClientRegistry, OAuthClient, SigningKey
from idiolectd.ports import AccessTokenStatus, Arrived
from tests.jose import decode
from tests.oauth.support import house
from tests.parts import ISSUER
from tests.simulator import Fault, Words, html, new_client_key
from tests.simulator.words import CLIENT, DEAD

pytestmark = pytest.mark.anyio

GET_SESSION = "/xrpc/com.atproto.server.getSession"
TOKEN = "/oauth/token"
REVOKE = "/oauth/revoke"


async def test_a_good_token_is_taken() -> None:
    """Asked with `ath` and the PDS's own nonce, and the answer's time comes along."""
    async with house() as b:
        session = b.session()
        probe = await b.refresher.probe(session)
        assert (probe.status, probe.server_time) == (AccessTokenStatus.ACCEPTED, b.clock.now())
        requests = b.transport.requests
        assert [request.url.path for request in requests] == [GET_SESSION] * 2
        assert "ath" in decode(requests[0].headers["DPoP"])[1]
        assert requests[1].headers["authorization"] == f"DPoP {session.access_jwt}"
        assert b.http.nonces.get(ISSUER) is None
        b.transport.requests.clear()
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.ACCEPTED
        assert len(b.transport.requests) == 1


async def test_a_rotated_token_is_not_taken() -> None:
    """What tells a lost answer from a lost request."""
    async with house() as b:
        session = b.session()
        assert isinstance(await b.refresh(session), Arrived)
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.REFUSED


async def test_a_token_that_an_entryway_still_takes_is_taken() -> None:
    """A rotated token of a server without state."""
    async with house(stateless_access_tokens=True) as b:
        session = b.session()
        assert isinstance(await b.refresh(session), Arrived)
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.ACCEPTED


def refused(status: int, error: str, challenge: str | None = None) -> Fault:
    headers = [("WWW-Authenticate", challenge)] if challenge else []
    return Fault("respond", status=status, headers=headers, body=json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        (refused(401, "invalid_token"), AccessTokenStatus.REFUSED),
        (
            refused(401, "x", 'DPoP algs="ES256", error="invalid_token", error_description="y"'),
            AccessTokenStatus.REFUSED,
        ),
        (refused(401, "invalid_dpop_proof"), AccessTokenStatus.UNKNOWN),
        (refused(401, "invalid_token", 'DPoP error="invalid_dpop_proof"'), AccessTokenStatus.UNKNOWN),
        (refused(401, "use_dpop_nonce"), AccessTokenStatus.UNKNOWN),
        (refused(401, "AccountTakedown"), AccessTokenStatus.UNKNOWN),
        (refused(400, "invalid_token"), AccessTokenStatus.UNKNOWN),
        (refused(403, "invalid_token"), AccessTokenStatus.UNKNOWN),
        (refused(500, "invalid_token"), AccessTokenStatus.UNKNOWN),
        (html(200), AccessTokenStatus.UNKNOWN),
        (html(401), AccessTokenStatus.UNKNOWN),
        (html(302), AccessTokenStatus.UNKNOWN),
        (Fault("respond", status=200, body=b'{"did":"did:plc:somebodyelse"}'), AccessTokenStatus.UNKNOWN),
        (Fault("connect_error"), AccessTokenStatus.UNKNOWN),
        (Fault("drop_after"), AccessTokenStatus.UNKNOWN),
    ],
)
async def test_only_two_answers_are_a_verdict(fault: Fault, taken: AccessTokenStatus) -> None:
    """Whatever is not plain yes or no leaves the session as it is."""
    async with house() as b:
        b.sim.faults.add(fault)
        assert (await b.refresher.probe(b.session())).status is taken


async def test_a_key_of_another_session_makes_no_verdict() -> None:
    """The PDS calls the token invalid then, and means the key."""
    async with house() as b:
        session = b.session(change={"dpopPrivateKeyJwk": b.session().dpop_private_key_jwk})
        assert (await b.refresher.probe(session)).status is AccessTokenStatus.UNKNOWN
        assert b.transport.requests == []


async def test_revoking_ends_the_session() -> None:
    """And the server's refusal of the token shows it."""
    async with house() as b:
        session = b.session()
        assert await b.refresher.revoke(session) is None
        assert not b.alive(session)
        assert (b.sim.counters.revocations, b.sim.counters.consumptions) == (1, 0)


async def test_a_stale_nonce_does_not_make_a_revocation_void() -> None:
    """The server says 200 to it and does nothing; the token must not be rotated to find that out."""
    async with house() as b:
        session = b.session()
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        b.clock.advance(3600)
        assert await b.refresher.revoke(session.with_tokens(answer.tokens)) is None
        assert b.sim.counters.consumptions == 1


async def test_the_nonces_of_two_servers_on_one_origin_are_kept_apart() -> None:
    """A self-hosted PDS is its own authorization server, and neither takes the other's nonces."""
    async with house() as b:
        b.sim.rebase(issuer="https://pds.test")
        session = b.session()
        for _ in range(3):
            answer = await b.refresh(session)
            assert isinstance(answer, Arrived)
            session = session.with_tokens(answer.tokens)
            assert (await b.refresher.probe(session)).status is AccessTokenStatus.ACCEPTED
        assert b.sim.counters.nonce_requests == 2


async def test_a_confidential_clients_session_is_revoked() -> None:
    """Without the assertion the server would say 200 and do nothing."""
    key = new_client_key("k1")
    client = "https://client.test/metadata.json"
    clients = ClientRegistry([OAuthClient(client, {"k1": SigningKey.parse(json.dumps(key))})])
    async with house(clients) as b:
        b.sim.add_client(client, [key])
        session = b.session(client_id=client)
        assert await b.refresher.revoke(session) is None
        assert not b.alive(session)


async def test_a_session_that_is_over_is_revoked() -> None:
    """Logging out twice is no error."""
    async with house() as b:
        session = b.session()
        b.sim.revoke_sessions(session.did)
        assert await b.refresher.revoke(session) is None


async def test_a_server_that_only_says_so_is_found_out_and_asked_again() -> None:
    """200 without revoking: the check gets new tokens, and those are revoked in turn."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("respond", REVOKE, status=200, body=b"{}"))
        assert await b.refresher.revoke(session) is None
        assert not b.alive(session)
        assert b.sim.counters.consumptions == 1


async def test_a_server_that_never_revokes_is_said_so() -> None:
    """Twice, and then the person is told."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("respond", REVOKE, None, status=200, body=b"{}"))
        assert "still takes" in str(await b.refresher.revoke(session))
        assert len(b.transport.to(REVOKE)) == 2


async def test_a_lost_answer_to_the_revocation_is_settled_by_the_check() -> None:
    """It took, although nobody said so."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(Fault("drop_after", REVOKE, skip=1))
        assert await b.refresher.revoke(session) is None
        assert not b.alive(session)


@pytest.mark.parametrize(
    "words", [words for words in DEAD if "dpop" in words.kinds], ids=lambda words: words.name
)
async def test_a_refusal_in_any_words_is_the_end(words: Words) -> None:
    """A server that refuses to refresh has ended the session, whatever it says, and whatever to the revocation."""
    async with house() as b:
        b.sim.faults.add(words.fault(TOKEN))
        assert await b.refresher.revoke(b.session()) is None
        if words.status >= 400:
            b.sim.faults.add(words.fault(REVOKE))
            assert await b.refresher.revoke(b.session()) is None


async def test_a_client_that_is_refused_has_ended_nothing() -> None:
    """The server can't fetch its document now; the session lives on there."""
    async with house() as b:
        b.sim.faults.add(CLIENT[0].fault(TOKEN))
        assert "is not known" in str(await b.refresher.revoke(b.session()))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("connect_error", REVOKE, None),
        html(503, REVOKE, None),
        Fault("drop_after", TOKEN, None),
        html(502, TOKEN, None),
        Fault("respond", "/.well-known/", None, status=503),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.match}-{fault.status}",
)
async def test_what_cant_be_known_is_said(fault: Fault) -> None:
    """A logout that may not have taken is never called done."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(fault)
        reason = await b.refresher.revoke(session)
        assert reason is not None
        assert session.refresh_jwt not in reason.message


async def test_a_refused_revocation_does_not_rotate_the_token() -> None:
    """The session is left whole for the next try."""
    async with house() as b:
        session = b.session()
        b.sim.faults.add(html(503, REVOKE, None))
        assert await b.refresher.revoke(session)
        assert b.sim.counters.consumptions == 0


async def test_a_server_without_revocation_is_said_so() -> None:
    """Discovery says whether there is an endpoint."""
    document = {"issuer": ISSUER, "token_endpoint": ISSUER + TOKEN}

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(lambda _: httpx.Response(200, json=document))

    async with house(wrap=wrap) as b:
        assert "no revocation endpoint" in str(await b.refresher.revoke(b.session()))
