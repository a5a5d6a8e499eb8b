"""A login from the pushed request to the session, against a server that forgives nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest

from idiolectd.clock import parse_rfc3339
from idiolectd.errors import LoginError, NotSent, Unclear
from idiolectd.identity import INVALID_HANDLE, Account
from idiolectd.oauth import (
    AuthorizationRequest,
    AuthorizationServer,
    ClientRegistry,
    GrantedSession,
    LoginClient,
    OAuthClient,
    SigningKey,
    loopback_client,
)
from idiolectd.ports import Arrived
from idiolectd.url import Url
from tests.jose import decode
from tests.oauth.support import House, house
from tests.parts import ISSUER, PDS
from tests.simulator import LOOPBACK_CLIENT_ID, Fault, Request, html, new_client_key, server_error
from tests.simulator.authorization import AUTHORIZE_PATH, PAR_PATH
from tests.simulator.discovery import authorization_server

pytestmark = pytest.mark.anyio

TOKEN = "/oauth/token"
METADATA = "/.well-known/oauth-authorization-server"
CLIENT = "https://client.test/metadata.json"
HOSTED = "https://client.test/idiolectd"
SCOPE = "atproto transition:generic"
K1, K2 = new_client_key("k1"), new_client_key("k2")


def registry() -> ClientRegistry:
    keys = {key["kid"]: SigningKey.parse(json.dumps(key)) for key in (K1, K2)}
    return ClientRegistry([OAuthClient(CLIENT, keys)])


def alice(b: House) -> Account:
    return Account(b.account.did, "alice.test", PDS)


async def push(b: House, client: LoginClient | None = None, **changes: Any) -> AuthorizationRequest:
    server = await b.discovery.server(ISSUER)
    assert isinstance(server, AuthorizationServer)
    how: dict[str, Any] = {"scope": SCOPE, "login_hint": "alice.test"} | changes
    return await AuthorizationRequest.push(
        b.http, b.clock, server, client or loopback_client(SCOPE, 4711), **how
    )


def browse(b: House, authorization: AuthorizationRequest) -> str:
    """What a browser does: follows the URL; returns the query that it is sent back with."""
    answer = b.sim.handle(Request("GET", authorization.url))
    assert answer.status == 303, answer.body
    return urlsplit(answer.get("location") or "").query


def bent(query: str, **changes: str | None) -> str:
    """The same query with some parameters changed, or left out."""
    fields = dict(parse_qsl(query)) | changes
    return urlencode({name: value for name, value in fields.items() if value is not None})


async def log_in(
    b: House, client: LoginClient | None = None, account: Account | None = None
) -> GrantedSession:
    authorization = await push(b, client)
    code = authorization.read_response(browse(b, authorization))
    return await authorization.exchange(code, account or alice(b))


# The whole way --------------------------------------------------------------------------------------


async def test_a_public_client_logs_in() -> None:
    """The session holds all that a refresh will need, and the server takes it."""
    async with house(access_life=600.0) as b:
        granted = await log_in(b)
        session = granted.session
        assert granted.mismatch is None
        assert (session.did, session.pds_url, session.handle) == (b.account.did, PDS, "alice.test")
        assert (session.issuer, session.client_id) == (ISSUER, LOOPBACK_CLIENT_ID)
        assert (session.client_auth_method, session.client_key_id) == ("none", None)
        assert (session.token_type, session.scope, session.kind) == ("DPoP", SCOPE, "dpop")
        assert parse_rfc3339(session.session_started_at) == parse_rfc3339(session.issued_at) == b.clock.now()
        assert parse_rfc3339(session.expires_at) == b.clock.now() + 600
        b.clock.advance(300)
        assert isinstance(answer := await b.refresh(session), Arrived)
        assert answer.mismatch is None
        assert b.sim.counters.logins == 1


async def test_a_confidential_client_logs_in_with_its_first_key() -> None:
    """The key is pinned; every request has an assertion of its own."""
    async with house(registry()) as b:
        b.sim.add_client(CLIENT, [K1, K2], [HOSTED])
        granted = await log_in(b, LoginClient(registry().for_login(CLIENT), HOSTED))
        session = granted.session
        assert granted.mismatch is None
        assert (session.client_id, session.client_auth_method, session.client_key_id) == (
            CLIENT,
            "private_key_jwt",
            "k1",
        )
        assert isinstance(await b.refresh(session), Arrived)
        forms = [parse_qs(r.content.decode()) for r in (*b.transport.to(PAR_PATH), *b.transport.to(TOKEN))]
        jtis = {decode(form["client_assertion"][0])[1]["jti"] for form in forms}
        assert len(jtis) == len(forms) == 4


async def test_what_is_pushed() -> None:
    """PKCE, state, hint and redirect are in the pushed request; the URL names client and request only."""
    async with house() as b:
        authorization = await push(b, state_suffix=".4711")
        *_, pushed = b.transport.to(PAR_PATH)
        form = dict(parse_qsl(pushed.content.decode()))
        assert form["response_type"] == "code"
        assert form["redirect_uri"] == "http://127.0.0.1:4711/callback"
        assert (form["scope"], form["login_hint"]) == (SCOPE, "alice.test")
        assert form["code_challenge_method"] == "S256"
        random, _, suffix = form["state"].rpartition(".")
        assert (len(random) >= 22, suffix) == (True, "4711")
        assert "ath" not in decode(pushed.headers["DPoP"])[1]
        url = urlsplit(authorization.url)
        assert f"{url.scheme}://{url.netloc}{url.path}" == ISSUER + AUTHORIZE_PATH
        assert set(parse_qs(url.query)) == {"client_id", "request_uri"}
        assert authorization.expires_in == 300
        assert form["state"] not in repr(authorization)


async def test_every_login_has_its_own_key_state_and_verifier() -> None:
    """Nothing of one login is good for another."""
    async with house() as b:
        sessions = [(await log_in(b)).session for _ in range(3)]
        forms = [dict(parse_qsl(r.content.decode())) for r in b.transport.to(PAR_PATH)[-3:]]
    assert len({session.dpop_thumbprint for session in sessions}) == 3
    assert len({form["state"] for form in forms}) == len({form["code_challenge"] for form in forms}) == 3


async def test_an_endpoint_with_a_query_keeps_it() -> None:
    """RFC 6749, section 3.1."""
    async with house() as b:
        server = await b.discovery.server(ISSUER)
        assert isinstance(server, AuthorizationServer)
        bent_server = replace(server, authorization_endpoint=Url.parse(ISSUER + "/a?b=c"))
        authorization = await AuthorizationRequest.push(
            b.http, b.clock, bent_server, loopback_client(SCOPE), scope=SCOPE, login_hint="alice.test"
        )
    assert authorization.url.startswith(ISSUER + "/a?b=c&client_id=")


@pytest.mark.parametrize("offset", [-400.0, 400.0, 86_400.0])
async def test_a_wrong_clock_does_not_stop_a_login(offset: float) -> None:
    """Proofs and assertions are dated by the server's clock, the record by ours."""
    async with house(registry(), server_clock_offset=offset) as b:
        b.sim.add_client(CLIENT, [K1], [HOSTED])
        granted = await log_in(b, LoginClient(registry().for_login(CLIENT), HOSTED))
        assert parse_rfc3339(granted.session.session_started_at) == b.clock.now()


# What a server must offer ---------------------------------------------------------------------------

DEMANDS: list[tuple[str, Any]] = [
    ("authorization_endpoint", None),
    ("authorization_endpoint", "http://entryway.test/oauth/authorize"),
    ("authorization_endpoint", ISSUER + "/oauth/authorize#fragment"),
    ("pushed_authorization_request_endpoint", None),
    ("pushed_authorization_request_endpoint", "https://10.0.0.1/par"),
    ("code_challenge_methods_supported", None),
    ("code_challenge_methods_supported", ["plain"]),
    ("dpop_signing_alg_values_supported", ["RS256"]),
    ("dpop_signing_alg_values_supported", "ES256"),
    ("authorization_response_iss_parameter_supported", None),
    ("authorization_response_iss_parameter_supported", "true"),
    ("scopes_supported", ["openid"]),
]


@pytest.mark.parametrize(("name", "value"), DEMANDS)
async def test_what_a_login_needs_and_a_refresh_does_not(name: str, value: Any) -> None:
    """A server that lacks it is named, with what it lacks; its sessions are refreshed all the same."""
    async with house() as b:
        document = json.loads(authorization_server(b.sim.state).body) | {name: value}
        body = json.dumps({key: value for key, value in document.items() if value is not None})
        b.sim.faults.add(Fault("respond", METADATA, None, status=200, body=body.encode()))
        with pytest.raises(LoginError, match=name) as raised:
            await push(b)
        assert (raised.value.code, ISSUER in str(raised.value)) == ("server_unfit", True)
        assert b.transport.to(PAR_PATH) == []
        assert isinstance(await b.refresh(b.session()), Arrived)


# The pushed request ---------------------------------------------------------------------------------


def oauth_error(path: str, status: int, error: str, text: str = "", **headers: str) -> Fault:
    body = json.dumps({"error": error, "error_description": text}).encode()
    return Fault("respond", path, status=status, headers=list(headers.items()), body=body)


REFUSALS: list[tuple[Fault, str, bool]] = [
    (oauth_error(PAR_PATH, 400, "invalid_request", "Nope"), "invalid_request", False),
    (oauth_error(PAR_PATH, 429, "slow_down"), "slow_down", True),
    (oauth_error(PAR_PATH, 400, "invalid_request", "x", **{"Retry-After": "9"}), "invalid_request", True),
    (html(503, PAR_PATH), "http_503", True),
    (html(404, PAR_PATH), "http_404", False),
    (html(302, PAR_PATH), "http_302", False),
    (Fault("respond", PAR_PATH, status=201, body=b"[]"), "unreadable_answer", False),
    (Fault("respond", PAR_PATH, status=201, body=b'{"request_uri":7}'), "unreadable_answer", False),
]


@pytest.mark.parametrize(("fault", "code", "passing"), REFUSALS)
async def test_a_refused_request(fault: Fault, code: str, passing: bool) -> None:
    """Its words are shown, and whether trying later helps."""
    async with house() as b:
        b.sim.faults.add(fault)
        with pytest.raises(LoginError) as raised:
            await push(b)
    assert (raised.value.code, raised.value.passing) == (code, passing)
    assert ISSUER in str(raised.value)


async def test_the_server_checks_what_is_pushed() -> None:
    """Another scope, redirect or client than was declared is refused before any browser is opened."""
    async with house() as b:
        b.sim.add_client(CLIENT, [K1], [HOSTED])
        loopback = loopback_client("atproto", 1)
        for client in (loopback, replace(loopback, redirect_uri="http://127.0.0.1:1/other")):
            with pytest.raises(LoginError, match=r"scope|redirect_uri"):
                await push(b, client)
        elsewhere = LoginClient(registry().for_login(CLIENT), "https://client.test/elsewhere")
        with pytest.raises(LoginError, match="redirect_uri"):
            await push(b, elsewhere)
        with pytest.raises(LoginError, match="no client"):
            registry().for_login("https://other.test/c.json")


async def test_an_unreachable_server() -> None:
    """The transport's own errors say whether anything was sent."""
    async with house() as b:
        b.sim.faults.add(Fault("connect_error", PAR_PATH))
        with pytest.raises(NotSent):
            await push(b)


# The redirect ---------------------------------------------------------------------------------------


async def test_only_this_logins_state_counts() -> None:
    """Without it, with another one, with two, or with too many fields, a redirect is a stranger's."""
    async with house() as b:
        authorization = await push(b)
        query = browse(b, authorization)
        assert authorization.is_ours(query)
        flood = query + "".join(f"&x{number}=" for number in range(40))
        for other in (
            "",
            "state=",
            bent(query, state=None),
            bent(query, state="x"),
            query + "&state=x",
            flood,
        ):
            assert not authorization.is_ours(other)
            with pytest.raises(LoginError) as raised:
                authorization.read_response(other)
            assert raised.value.code == "state_mismatch"
        assert not authorization.is_ours(bent(query, state="é"))
        assert authorization.read_response(query).startswith("cod-")


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"iss": None}, "issuer_mismatch", "no authorization server"),
        ({"iss": "https://evil.test"}, "issuer_mismatch", "https://evil.test"),
        ({"iss": ISSUER + "/"}, "issuer_mismatch", ISSUER),
        ({"iss": "https://evil.test", "error": "access_denied"}, "issuer_mismatch", "evil"),
        ({"code": None}, "unreadable_answer", "without a code"),
        ({"code": ""}, "unreadable_answer", "without a code"),
        ({"error": "access_denied"}, "access_denied", "declined"),
        ({"error": "access_denied", "error_description": "not today"}, "access_denied", "not today"),
        ({"error": "invalid_scope", "error_description": "a\x1b[2Jb"}, "invalid_scope", "a [2Jb"),
        ({"error": ""}, "error", "ended the login"),
    ],
)
async def test_a_redirect_that_is_no_consent(changes: dict[str, str | None], code: str, words: str) -> None:
    """It is refused for good, in words that a person understands."""
    async with house() as b:
        authorization = await push(b)
        query = bent(browse(b, authorization), **changes)
        assert authorization.is_ours(query)
        with pytest.raises(LoginError) as raised:
            authorization.read_response(query)
    assert raised.value.code == code
    assert words in str(raised.value)
    assert "cod-" not in str(raised.value)


async def test_a_server_in_trouble_may_be_asked_later() -> None:
    """RFC 6749, section 4.1.2.1: two of the errors pass."""
    async with house() as b:
        authorization = await push(b)
        query = browse(b, authorization)
        for error, passing in (("server_error", True), ("temporarily_unavailable", True), ("x", False)):
            with pytest.raises(LoginError) as raised:
                authorization.read_response(bent(query, error=error))
            assert raised.value.passing is passing


async def test_a_declined_consent() -> None:
    """The person's no comes back as such."""
    async with house() as b:
        b.sim.set_consent("deny")
        authorization = await push(b)
        with pytest.raises(LoginError, match=r"declined.*rejected") as raised:
            authorization.read_response(browse(b, authorization))
    assert raised.value.code == "access_denied"


# The exchange ---------------------------------------------------------------------------------------


async def test_another_accounts_consent_does_not_fit() -> None:
    """Both accounts are named; what arrived can be revoked, and is."""
    async with house() as b:
        mallory = b.sim.add_account("mallory.test")
        b.sim.set_consent("mallory.test")
        granted = await log_in(b)
        assert mallory.did in (granted.mismatch or "")
        assert f"alice.test ({b.account.did})" in (granted.mismatch or "")
        assert b.alive(granted.session)
        assert await b.refresher.revoke(granted.session) is None
        assert not b.alive(granted.session)


def answered(b: House, **changes: Any) -> Fault:
    body = {
        "access_token": "access-1",
        "token_type": "DPoP",
        "refresh_token": "refresh-1",
        "expires_in": 600,
        "sub": b.account.did,
        "scope": SCOPE,
    } | changes
    text = json.dumps({name: value for name, value in body.items() if value is not None})
    return Fault("respond", TOKEN, status=200, body=text.encode())


@pytest.mark.parametrize(
    ("changes", "mismatch"),
    [
        ({}, None),
        ({"token_type": "dpop"}, None),
        ({"token_type": "Bearer"}, "token_type"),
        ({"token_type": None}, "token_type"),
        ({"sub": "did:plc:somebodyelse"}, "did:plc:somebodyelse consented"),
        ({"sub": "nobody\n"}, "sub"),
        ({"sub": None}, "sub"),
        ({"scope": "transition:generic"}, "scope"),
        ({"scope": "atprotox"}, "scope"),
        ({"scope": None}, "scope"),
        ({"refresh_token": None}, "tokens"),
        ({"access_token": None}, "tokens"),
    ],
)
async def test_tokens_that_do_not_fit(changes: dict[str, Any], mismatch: str | None) -> None:
    """They are told apart from those that do, and named for revoking."""
    async with house() as b:
        authorization = await push(b)
        code = authorization.read_response(browse(b, authorization))
        b.sim.faults.add(answered(b, **changes))
        granted = await authorization.exchange(code, alice(b))
        assert (granted.mismatch is None) if mismatch is None else (mismatch in (granted.mismatch or ""))
        assert granted.session.refresh_jwt in ("refresh-1", "access-1")
        assert "\n" not in (granted.mismatch or "")
        assert "access-1" not in repr(granted) + (granted.mismatch or "")


async def test_a_handle_that_is_not_confirmed_is_not_kept() -> None:
    """The record then holds none; the DID is the key."""
    async with house() as b:
        granted = await log_in(b, account=Account(b.account.did, INVALID_HANDLE, PDS))
    assert granted.session.handle is None


async def test_a_code_is_good_once_and_for_this_login() -> None:
    """A made-up code, one of another login, a used one: refused, and the code is not shown."""
    async with house() as b:
        first, second = await push(b), await push(b)
        code = first.read_response(browse(b, first))
        for authorization, tried in ((first, "cod-" + "0" * 64), (second, code)):
            with pytest.raises(LoginError) as raised:
                await authorization.exchange(tried, alice(b))
            assert (raised.value.code, raised.value.passing) == ("invalid_grant", False)
            assert tried not in str(raised.value)
        granted = await log_in(b)
        assert b.alive(granted.session)
        third = await push(b)
        code = third.read_response(browse(b, third))
        granted = await third.exchange(code, alice(b))
        with pytest.raises(LoginError):
            await third.exchange(code, alice(b))
        assert not b.alive(granted.session)  # the server's answer to a replay


async def test_a_code_that_came_too_late() -> None:
    """The server's words say so."""
    async with house() as b:
        authorization = await push(b)
        code = authorization.read_response(browse(b, authorization))
        b.clock.advance(301)
        with pytest.raises(LoginError, match="expired"):
            await authorization.exchange(code, alice(b))


async def test_a_nonce_that_changed_while_the_person_was_away() -> None:
    """The proof is repeated, the code is not used up by that."""
    async with house() as b:
        authorization = await push(b)
        code = authorization.read_response(browse(b, authorization))
        b.clock.advance(290)
        granted = await authorization.exchange(code, alice(b))
        assert granted.mismatch is None
        assert len(b.transport.to(TOKEN)) == 2


ENDS: list[tuple[Callable[[], Fault], type[Exception]]] = [
    (lambda: Fault("connect_error", TOKEN), NotSent),
    (lambda: Fault("drop_after", TOKEN), Unclear),
    (lambda: Fault("truncate", TOKEN, count=30), Unclear),
    (lambda: html(200, TOKEN), LoginError),
    (lambda: html(502, TOKEN), LoginError),
    (lambda: server_error(), LoginError),
    (lambda: Fault("respond", TOKEN, status=200, body=b'{"access_token":7}'), LoginError),
]


@pytest.mark.parametrize(("fault", "error"), ENDS)
async def test_an_exchange_without_tokens(fault: Callable[[], Fault], error: type[Exception]) -> None:
    """Each end is an error of ours, and holds neither code nor verifier."""
    async with house() as b:
        authorization = await push(b)
        code = authorization.read_response(browse(b, authorization))
        b.sim.faults.add(fault())
        with pytest.raises(error) as raised:
            await authorization.exchange(code, alice(b))
        assert code not in str(raised.value)


async def test_a_server_that_quotes_what_it_refuses() -> None:
    """Code and verifier are masked."""
    quoted: list[httpx.Request] = []

    def wrap(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        async def handler(request: httpx.Request) -> httpx.Response:
            if request.url.path != TOKEN:
                return await inner.handle_async_request(request)
            quoted.append(request)
            form = dict(parse_qsl(request.content.decode()))
            text = f"no {form['code']} and {form['code_verifier']}"
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": text})

        return httpx.MockTransport(handler)

    async with house(wrap=wrap) as b:
        authorization = await push(b)
        code = authorization.read_response(browse(b, authorization))
        with pytest.raises(LoginError) as raised:
            await authorization.exchange(code, alice(b))
    verifier = dict(parse_qsl(quoted[0].content.decode()))["code_verifier"]
    assert code not in str(raised.value)
    assert verifier not in str(raised.value) + repr(authorization)


def test_a_key_that_is_exported_is_the_same_key() -> None:
    """What goes into the record is read back as the key that the tokens are bound to."""
    key = SigningKey.generate()
    again = SigningKey.parse(key.to_private_jwk())
    assert again.thumbprint == key.thumbprint
    assert again.to_private_jwk() == key.to_private_jwk()
