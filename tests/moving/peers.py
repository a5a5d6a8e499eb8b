"""Sessions as other programs keep them, in their own words."""

import json
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.jose import b64u

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OTHER = "did:web:bot.example"
PDS = "https://puffball.us-east.host.bsky.network"
ISSUER = "https://bsky.social"
CLIENT = "https://app.example/client-metadata.json"

# RFC 7515, appendix A.3.1, and the same key as indigo keeps it.
JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def jwt(**claims: Any) -> str:
    """A JWT whose signature nobody looks at."""
    return f"{b64u(b'{}')}.{b64u(json.dumps(claims).encode())}.{b64u(b'signature')}"


ACCESS = jwt(iss=ISSUER, sub=DID, client_id=CLIENT, iat=1_750_000_000, exp=1_750_003_600)
LEGACY = jwt(scope="com.atproto.appPass", sub=DID, iat=1_750_000_000, exp=1_750_007_200)


def node(did: str = DID, access: str = ACCESS, **changes: Any) -> dict[str, Any]:
    """``NodeSavedSession``."""
    return {
        "dpopJwk": {**JWK, "alg": "ES256"},
        "authMethod": {"method": "none"},
        "tokenSet": {
            "iss": ISSUER,
            "sub": did,
            "aud": PDS,
            "scope": "atproto transition:generic",
            "refresh_token": "ref-0123",
            "access_token": access,
            "token_type": "DPoP",
            "expires_at": "2025-06-15T16:06:40.000Z",
        },
        **changes,
    }


def indigo(key: str, **changes: Any) -> dict[str, Any]:
    """``ClientSessionData``."""
    return {
        "account_did": DID,
        "session_id": "R3yZ4VvN0hUo",
        "host_url": PDS,
        "authserver_url": ISSUER,
        "authserver_token_endpoint": f"{ISSUER}/oauth/token",
        "authserver_revocation_endpoint": f"{ISSUER}/oauth/revoke",
        "scopes": ["atproto", "transition:generic"],
        "access_token": ACCESS,
        "refresh_token": "ref-0123",
        "dpop_authserver_nonce": "nonce-a",
        "dpop_host_nonce": "nonce-b",
        "dpop_privatekey_multibase": key,
        **changes,
    }


def record(**changes: Any) -> dict[str, Any]:
    """A record of idiolect-oauth."""
    return {
        "did": DID,
        "pdsUrl": PDS,
        "accessJwt": ACCESS,
        "refreshJwt": "ref-0123",
        "dpopPrivateKeyJwk": json.dumps(JWK),
        "tokenType": "DPoP",
        **changes,
    }


def session_string(*, endpoint: bool = True) -> str:
    """What ``Client.export_session_string()`` returns."""
    parts = ["bot.example", DID, LEGACY, LEGACY + "r"]
    return ":::".join([*parts, PDS] if endpoint else parts)


def goat(**changes: Any) -> dict[str, Any]:
    """``auth-session.json``."""
    return {"did": DID, "pds": PDS, "session_token": LEGACY + "r", "access_token": LEGACY, **changes}


def cookbook(path: Path) -> Path:
    """The web application's database; it has other tables too."""
    key = json.dumps(JWK)
    return database(
        path,
        {
            "oauth_auth_request": [{"state": "s", "did": DID, "dpop_private_jwk": key}],
            "oauth_session": [
                {
                    "did": DID,
                    "handle": "bot.example",
                    "pds_url": PDS,
                    "authserver_iss": ISSUER,
                    "access_token": ACCESS,
                    "refresh_token": "ref-0123",
                    "dpop_authserver_nonce": "nonce-a",
                    "dpop_private_jwk": key,
                }
            ],
        },
    )


def database(path: Path, tables: Mapping[str, list[dict[str, Any]]]) -> Path:
    """A SQLite database with such rows."""
    with closing(sqlite3.connect(path)) as connection:
        for name, rows in tables.items():
            connection.execute(f"CREATE TABLE {name} ({', '.join(rows[0])})")
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(
                f"INSERT INTO {name} VALUES ({marks})", [tuple(row.values()) for row in rows]
            )
        connection.commit()
    return path


def multibase() -> str:
    """The key in multibase, by another way than idiolectd's: from decimal digits."""
    number, digits = int.from_bytes(b"\x86\x26" + urlsafe_b64decode(JWK["d"] + "=")), ""
    while number:
        digits = _BASE58[number % 58] + digits
        number //= 58
    return "z" + digits
