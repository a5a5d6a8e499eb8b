"""A small client of its own kind, to speak to the simulator (or a real server) without the package under test.

Does: DPoP proofs, client assertions, and the refresh, revoke and API requests as plain values; every claim and
header can be bent. `DpopClient.call` sends straight into a simulator's core.
Does not: retry, store, or protect anything: a test says exactly what is sent.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.jose import alg_of, load_private_jwk, public_jwk, sha256_b64u, sign
from tests.simulator.core import Simulator
from tests.simulator.proofs import ASSERTION_TYPE
from tests.simulator.wire import Request, Response

TOKEN = "/oauth/token"
XRPC = "/xrpc/"


class DpopClient:
    """One session record's client; ``nonces`` keeps the last one of each of "as" and "pds"."""

    def __init__(
        self, record: dict[str, Any], now: Callable[[], float], client_key: dict[str, str] | None = None
    ) -> None:
        self.record = dict(record)
        self.now = now
        self.client_key = client_key
        self.key = (
            load_private_jwk(json.loads(record["dpopPrivateKeyJwk"])) if record["dpopPrivateKeyJwk"] else None
        )
        self.nonces: dict[str, str] = {}

    def proof(
        self, method: str, url: str, *, role: str = "as", token: str | None = None, **claims: Any
    ) -> str:
        """A proof; a claim given as None is left out. ``header`` (a dict) is merged into the JOSE header."""
        assert self.key is not None
        header: dict[str, Any] = {"typ": "dpop+jwt", "alg": alg_of(self.key), "jwk": public_jwk(self.key)}
        header |= claims.pop("header", {})
        payload: dict[str, Any] = {
            "jti": secrets.token_urlsafe(12),
            "htm": method,
            "htu": url.split("?")[0],
            "iat": int(self.now()),
            "nonce": self.nonces.get(role),
            "ath": sha256_b64u(token) if token is not None else None,
        }
        payload |= claims
        return sign(self.key, header, {name: value for name, value in payload.items() if value is not None})

    def assertion(self, **claims: Any) -> str:
        """A client assertion by ``client_key``; ``header`` as in `proof`."""
        assert self.client_key is not None
        key = load_private_jwk(self.client_key)
        header = {"alg": alg_of(key), "kid": self.client_key["kid"], **claims.pop("header", {})}
        now = int(self.now())
        payload: dict[str, Any] = {
            "iss": self.record["clientId"],
            "sub": self.record["clientId"],
            "aud": self.record["issuer"],
            "jti": secrets.token_urlsafe(12),
            "iat": now - 5,
            "exp": now + 55,
        }
        payload |= claims
        return sign(key, header, {name: value for name, value in payload.items() if value is not None})

    def form(self, path: str, fields: dict[str, str | None], proof: str | None = None) -> Request:
        """A form to the authorization server; ``proof=""`` sends none."""
        url = self.record["issuer"] + path
        all_fields: dict[str, str | None] = {"client_id": self.record["clientId"]}
        if self.client_key is not None:
            all_fields |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self.assertion()}
        all_fields |= fields
        headers = [("content-type", "application/x-www-form-urlencoded")]
        if proof != "":
            headers.append(("dpop", proof or self.proof("POST", url)))
        body = urlencode({name: value for name, value in all_fields.items() if value is not None})
        return Request("POST", url, headers, body.encode())

    def refresh_request(self, proof: str | None = None, **fields: str | None) -> Request:
        """A refresh of the record's token; a field given as None is left out."""
        return self.form(
            TOKEN,
            {"grant_type": "refresh_token", "refresh_token": self.record["refreshJwt"], **fields},
            proof,
        )

    def api_request(
        self, name: str, body: Any = None, *, token: str | None = None, proof: str | None = None
    ) -> Request:
        """An XRPC call with the access token (or another one), Bearer or DPoP as the record says."""
        url = self.record["pdsUrl"] + XRPC + name
        method = "GET" if body is None else "POST"
        token = token if token is not None else self.record["accessJwt"]
        headers = [("authorization", f"{self.record['tokenType']} {token}")]
        if self.key is not None and proof != "":
            headers.append(("dpop", proof or self.proof(method, url, role="pds", token=token)))
        if body is None:
            return Request(method, url, headers)
        headers.append(("content-type", "application/json"))
        return Request(method, url, headers, json.dumps(body).encode())

    def legacy_request(self, name: str, body: bytes = b"", *, token: str | None = None) -> Request:
        """refreshSession or deleteSession with the refresh token."""
        url = f"{self.record['pdsUrl']}{XRPC}com.atproto.server.{name}"
        return Request("POST", url, [("authorization", f"Bearer {token or self.record['refreshJwt']}")], body)

    def learn(self, request: Request, response: Response) -> Response:
        """Take over what an answer brings: nonce and tokens."""
        nonce = response.get("dpop-nonce")
        if nonce is not None:
            self.nonces["as" if "/oauth/" in request.url else "pds"] = nonce
        if response.status == 200 and request.body.find(b"grant_type=refresh_token") >= 0:
            tokens = response.json()
            self.record |= {"accessJwt": tokens["access_token"], "refreshJwt": tokens["refresh_token"]}
        elif response.status == 200 and request.url.endswith("refreshSession"):
            tokens = response.json()
            self.record |= {"accessJwt": tokens["accessJwt"], "refreshJwt": tokens["refreshJwt"]}
        return response

    def send(self, sim: Simulator, request: Request) -> Response:
        """Send one request into the core, once, and learn from the answer."""
        return self.learn(request, sim.handle(request))

    def call(self, sim: Simulator, make: Callable[[], Request]) -> Response:
        """Send a request into the core, made anew once if it asks for a nonce."""
        response = self.send(sim, make())
        return self.send(sim, make()) if b"use_dpop_nonce" in response.body else response

    def refresh(self, sim: Simulator, **fields: str | None) -> Response:
        """Refresh, with a nonce round if needed."""
        return self.call(sim, lambda: self.refresh_request(**fields))
