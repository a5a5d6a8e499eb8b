"""The naive loop: what somebody writes in an afternoon, with httpx and one commit a refresh.

    python -m bench.naive DATABASE SESSIONS

One session after the other: the record read, a DPoP proof, one request with httpx, one durable commit.
It keeps none of the promises: no claim, no note, and an answer that is lost is a session that is lost.
"""

import json
import sqlite3
import sys
import time
from base64 import urlsafe_b64decode
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.peers import finished
from bench.seeding import base64url, did, rfc3339, unique


def proof(record: dict[str, Any], url: str, nonce: str | None) -> str:
    """A DPoP proof (RFC 9449)."""
    jwk = json.loads(record["dpopPrivateKeyJwk"])
    key = ec.derive_private_key(int.from_bytes(urlsafe_b64decode(jwk["d"] + "="), "big"), ec.SECP256R1())
    public = {name: value for name, value in jwk.items() if name != "d"}
    head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public}
    claims = {"jti": unique(), "htm": "POST", "htu": url, "iat": int(time.time())}
    if nonce is not None:
        claims["nonce"] = nonce
    signed = base64url(json.dumps(head).encode()) + "." + base64url(json.dumps(claims).encode())
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return signed + "." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def refresh(name: str, database: sqlite3.Connection, http: httpx.Client, nonces: dict[str, str]) -> None:
    """Refreshes one session."""
    row = database.execute("SELECT body_json FROM sessions WHERE did = ?", (name,)).fetchone()
    record = json.loads(row[0])
    issuer = record["issuer"]
    url = f"{issuer}/oauth/token"
    form = {
        "grant_type": "refresh_token",
        "refresh_token": record["refreshJwt"],
        "client_id": record["clientId"],
    }
    answer = http.post(url, data=form, headers={"DPoP": proof(record, url, nonces.get(issuer))})
    nonces[issuer] = answer.headers["DPoP-Nonce"]
    if answer.status_code == 400:  # it wants the nonce
        answer = http.post(url, data=form, headers={"DPoP": proof(record, url, nonces[issuer])})
    tokens = answer.raise_for_status().json()
    now = time.time()
    record |= {
        "accessJwt": tokens["access_token"],
        "refreshJwt": tokens["refresh_token"],
        "issuedAt": rfc3339(now),
        "expiresAt": rfc3339(now + tokens["expires_in"]),
    }
    database.execute("UPDATE sessions SET body_json = ? WHERE did = ?", (json.dumps(record), name))


def main() -> None:
    """Refreshes each session once."""
    path, sessions = sys.argv[1], int(sys.argv[2])
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous=FULL")
    nonces: dict[str, str] = {}
    with httpx.Client(trust_env=False, timeout=60) as http:
        for number in range(sessions):
            refresh(did(number), database, http, nonces)
        finished()


if __name__ == "__main__":
    main()
