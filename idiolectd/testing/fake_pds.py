"""A PDS for tests: it is in memory, answers on a port of 127.0.0.1, and checks tokens and DPoP proofs.

Every HTTP library reaches it, in threads and in event loops: it runs in a thread of its own. It knows a few XRPC
methods, and whatever a test adds to `FakePds.methods`. It does not log in or refresh: a test moves the tokens on.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from idiolectd.clock import rfc3339
from idiolectd.oauth import SigningKey
from idiolectd.session import OAuthSession
from idiolectd.testing.proofs import BadProof, ProofCheck

# How many seconds an access token lives, by what the session says.
_LIFE = 3600.0


@dataclass(frozen=True)
class Call:
    """A call of an XRPC method that was authorized.

    Attributes:
        method: the NSID, as ``com.atproto.repo.createRecord``.
        account: whose token came along.
        query: the parameters of the URL.
        body: as it was sent.
    """

    method: str
    account: "FakeAccount"
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


# What answers a method: an object for JSON with status 200, or what takes the call and returns that.
Method = Mapping[str, Any] | Callable[[Call], Mapping[str, Any]]


class _Refused(Exception):
    def __init__(self, status: int, error: str, message: str, challenge: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.challenge = challenge


class FakeAccount:
    """An account with one session.

    Attributes:
        did: its DID.
        handle: its handle.
        session: the session, as a login would have stored it; after `rotate` with the new tokens.
        records: what was written with createRecord, oldest first.
    """

    def __init__(self, did: str, handle: str, session: OAuthSession) -> None:
        self.did = did
        self.handle = handle
        self.session = session
        self.records: list[Mapping[str, Any]] = []
        self._expired: set[str] = set()
        self._refusals: list[_Refused] = []

    def rotate(self) -> OAuthSession:
        """Replaces the tokens, as a refresh does: the old ones are refused. Returns the new session; store it."""
        now = time.time()
        tokens = _tokens(now)
        changed = json.loads(self.session.to_json()) | tokens
        self.session = OAuthSession.from_json(json.dumps(changed))
        return self.session

    def expire(self) -> None:
        """Lets the present access token end before its time: it is refused until `rotate` brings another."""
        self._expired.add(self.session.access_jwt)

    def refuse(
        self, error: str, *, status: int = 400, message: str = "refused by the test", times: int = 1
    ) -> None:
        """Refuses the account's next calls for another reason than the token.

        Args:
            error: the error code, as ``AccountTakedown`` or ``RateLimitExceeded``.
            status: the HTTP status.
            message: the text beside the code.
            times: how many calls.
        """
        self._refusals += [_Refused(status, error, message) for _ in range(times)]

    def check_refusals(self, token: str) -> None:
        """Raises the refusal that is next, if there is one."""
        if token in self._expired:
            raise _token_refused(self.session.kind, "the access token has expired")
        if self._refusals:
            raise self._refusals.pop(0)


class FakePds:
    """The server. Use it as a context manager, or call `start` and `close`.

    Attributes:
        url: where it answers, once it is started.
        accounts: by their DIDs.
        calls: the calls that were authorized, oldest first.
        refused: how many requests were refused, for their token, their proof, or by a test.
        methods: answers to XRPC methods by their NSIDs; a test adds its own.
        nonce: what proofs must carry (RFC 9449, section 9); a test may change it, and every client learns the new
            one from a refusal. None: none is asked for.
    """

    def __init__(self) -> None:
        self.url = ""
        self.accounts: dict[str, FakeAccount] = {}
        self.calls: list[Call] = []
        self.refused = 0
        self.nonce: str | None = secrets.token_urlsafe(12)
        self.methods: dict[str, Method] = {
            "com.atproto.server.getSession": _get_session,
            "com.atproto.repo.createRecord": _create_record,
        }
        self._proofs = ProofCheck()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Begins to answer, on a free port of 127.0.0.1."""
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def close(self) -> None:
        """Stops answering. What is under way is cut off."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def add_account(self, handle: str, *, kind: Literal["dpop", "bearer"] = "dpop") -> FakeAccount:
        """Makes an account with a session. The server must have been started: a session names its PDS.

        Args:
            handle: as ``alice.test``.
            kind: ``dpop``: an OAuth session; ``bearer``: a legacy one, of an app password.
        """
        if self._server is None:
            raise RuntimeError("start the FakePds first")
        did = f"did:plc:{secrets.token_hex(12)}"
        record = {"did": did, "pdsUrl": self.url, "handle": handle, "confirmedHandle": handle}
        record |= _tokens(time.time())
        if kind == "dpop":
            key = SigningKey.generate().to_private_jwk()
            record |= {"dpopPrivateKeyJwk": key, "tokenType": "DPoP", "scope": "atproto transition:generic"}
            record |= {"issuer": self.url, "clientId": "http://localhost", "clientAuthMethod": "none"}
        account = FakeAccount(did, handle, OAuthSession.from_json(json.dumps(record)))
        self.accounts[did] = account
        return account

    def answer(
        self, http_method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to one request; `target` is its path and query."""
        with self._lock:
            extra = {"Content-Type": "application/json"}
            if self.nonce is not None:
                extra["DPoP-Nonce"] = self.nonce
            try:
                found = self._answered(http_method, target, headers, body)
            except _Refused as refused:
                self.refused += 1
                if refused.challenge is not None:
                    extra["WWW-Authenticate"] = refused.challenge
                found = {"error": refused.error, "message": str(refused)}
                return refused.status, extra, json.dumps(found).encode()
            return 200, extra, json.dumps(found).encode()

    def _answered(
        self, http_method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Mapping[str, Any]:
        parts = urlsplit(target)
        account = self._authorized(http_method, f"{self.url}{parts.path}", headers)
        name = parts.path.removeprefix("/xrpc/")
        method = self.methods.get(name)
        if method is None:
            raise _Refused(501, "MethodNotImplemented", f"FakePds.methods has no {name}")
        call = Call(name, account, dict(parse_qsl(parts.query)), body)
        self.calls.append(call)
        return method(call) if callable(method) else method

    def _authorized(self, http_method: str, url: str, headers: Mapping[str, str]) -> FakeAccount:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = [one for one in self.accounts.values() if one.session.access_jwt == token]
        kind = found[0].session.kind if found else "bearer" if scheme == "Bearer" else "dpop"
        if scheme.lower() != kind:
            raise _token_refused(kind, f"a {kind} session was used with {scheme or 'no token'}")
        if kind == "dpop":
            try:
                signer, nonce = self._proofs.thumbprint(
                    headers.get("dpop", ""), method=http_method, url=url, token=token, now=time.time()
                )
            except BadProof as bad:
                challenge = 'DPoP error="invalid_dpop_proof"'
                raise _Refused(401, "invalid_dpop_proof", str(bad), challenge) from None
            if nonce != self.nonce and self.nonce is not None:
                challenge = 'DPoP error="use_dpop_nonce"'
                raise _Refused(401, "use_dpop_nonce", "the proof needs the nonce of DPoP-Nonce", challenge)
            if found and found[0].session.dpop_thumbprint != signer:
                raise _token_refused(kind, "the token is bound to another key")
        if not found:
            raise _token_refused(kind, "no session has this access token")
        found[0].check_refusals(token)
        return found[0]


def _token_refused(kind: str, message: str) -> _Refused:
    if kind == "bearer":
        return _Refused(400, "ExpiredToken", message)
    return _Refused(401, "invalid_token", message, 'DPoP error="invalid_token"')


def _tokens(now: float) -> dict[str, str]:
    return {
        "accessJwt": f"access-{secrets.token_urlsafe(24)}",
        "refreshJwt": f"refresh-{secrets.token_urlsafe(24)}",
        "issuedAt": rfc3339(now),
        "expiresAt": rfc3339(now + _LIFE),
    }


def _get_session(call: Call) -> Mapping[str, Any]:
    return {"did": call.account.did, "handle": call.account.handle, "active": True}


def _create_record(call: Call) -> Mapping[str, Any]:
    given = call.json()
    if given.get("repo") not in (call.account.did, call.account.handle):
        raise _Refused(400, "InvalidRequest", f"repo is {given.get('repo')!r}, not the account's")
    call.account.records.append(given["record"])
    key = given.get("rkey") or f"{len(call.account.records):013d}"
    return {
        "uri": f"at://{call.account.did}/{given['collection']}/{key}",
        "cid": "bafyreib2rxk3rh6kzwq3ztvuj2bhr3zzx3bnwwq4hftxb3h7wzqh3xjq4e",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, pds: FakePds) -> None:
        self.pds = pds
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: a test looks at `FakePds.calls`."""

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._chunks() if "chunked" in headers.get("transfer-encoding", "") else self._counted(headers)
        status, extra, content = self.server.pds.answer(self.command, self.path, headers, body)
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _counted(self, headers: Mapping[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", 0)))

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return found
