"""Sessions of the benchmark's server, and stores full of them, as other programs would have written them."""

import hashlib
import json
import secrets
import sqlite3
import string
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

CLIENT_ID = (
    "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&scope=atproto%20transition%3Ageneric"
)

# Seconds that the seeded access tokens, and those that the server gives, live.
LIFETIME = 3600.0

# The share of its life at which a token is refreshed: so narrow that `Seeding.due` says when.
WINDOW = (0.70, 0.7001)

_LETTERS = str.maketrans(string.digits, "abcdefghij")
_SIGNATURE = "s" * 86
_ACCESS_HEAD = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NksifQ"

# A key for each session would take longer to make than everything else; nobody sees whose it is.
_KEYS = 256


def did(number: int) -> str:
    """The DID of a session; the server reads the number back."""
    return "did:plc:" + f"{number:024d}".translate(_LETTERS)


def handle(number: int) -> str:
    """The handle of a session."""
    return f"u{number}.test"


def refresh_token(number: int) -> str:
    """The first refresh token of a session; see `endpoint.c`."""
    return f"ref-{number:024d}{0:08x}{number:032x}"


def rfc3339(seconds: float) -> str:
    """A time as it stands in a record."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Seeding:
    """Which sessions there are.

    Attributes:
        issuers: their issuers' URLs, in turns.
        count: how many.
        due: when the first becomes due, in seconds since the epoch.
        pause: seconds between one session's due time and the next one's.
        first: the number of the first session.
        lifetime: seconds that their access tokens live.
        is_foreign: in the shape that other programs write: no issuer, no client, no confirmed handle.
    """

    issuers: Sequence[str]
    count: int
    due: float
    pause: float = 0.0
    first: int = 0
    lifetime: float = LIFETIME
    is_foreign: bool = False

    def records(self) -> Iterator[tuple[str, str]]:
        """DID and record of each session, in the order of their due times."""
        for place in range(self.count):
            number = self.first + place
            issued_at = self.due + place * self.pause - WINDOW[0] * self.lifetime
            yield did(number), json.dumps(self._record(number, issued_at), separators=(",", ":"))

    def _record(self, number: int, issued_at: float) -> dict[str, str]:
        issuer = self.issuers[number % len(self.issuers)]
        jwk, thumbprint = _keys()[number % _KEYS]
        record = {
            "did": did(number),
            "pdsUrl": issuer,
            "accessJwt": self._access_token(number, issuer, thumbprint, issued_at),
            "refreshJwt": refresh_token(number),
            "dpopPrivateKeyJwk": jwk,
            "tokenType": "DPoP",
            "scope": "atproto transition:generic",
            "handle": handle(number),
            "issuedAt": rfc3339(issued_at),
            "expiresAt": rfc3339(issued_at + self.lifetime),
        }
        if not self.is_foreign:
            record |= {
                "issuer": issuer,
                "clientId": CLIENT_ID,
                "clientAuthMethod": "none",
                "sessionStartedAt": rfc3339(issued_at),
                "confirmedHandle": handle(number),
            }
        return record

    def _access_token(self, number: int, issuer: str, thumbprint: str, issued_at: float) -> str:
        claims = {
            "aud": "did:web:localhost",
            "iat": int(issued_at),
            "exp": int(issued_at + self.lifetime),
            "sub": did(number),
            "jti": f"tok-{number:032x}",
            "cnf": {"jkt": thumbprint},
            "client_id": CLIENT_ID,
            "scope": "atproto transition:generic",
            "iss": issuer,
        }
        return f"{_ACCESS_HEAD}.{base64url(json.dumps(claims, separators=(',', ':')).encode())}.{_SIGNATURE}"


@cache
def _keys() -> list[tuple[str, str]]:
    """Private JWKs, with their thumbprints (RFC 7638)."""
    return [_new_key() for _ in range(_KEYS)]


def _new_key() -> tuple[str, str]:
    private = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = private.public_numbers
    public = {"crv": "P-256", "kty": "EC"} | {
        name: base64url(value.to_bytes(32, "big")) for name, value in (("x", point.x), ("y", point.y))
    }
    canonical = json.dumps(public, separators=(",", ":"), sort_keys=True).encode()
    jwk = public | {"d": base64url(private.private_value.to_bytes(32, "big"))}
    return json.dumps(jwk, separators=(",", ":")), base64url(hashlib.sha256(canonical).digest())


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unique() -> str:
    """A ``jti`` (RFC 9449)."""
    return secrets.token_urlsafe(16)


def write_sqlite(path: Path, records: Iterable[tuple[str, str]]) -> str:
    """Writes upstream's table; returns the store's URL."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")
    database.execute(
        "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)"
    )
    with database:
        database.executemany("INSERT INTO sessions VALUES (?, ?)", records)
    database.close()
    path.chmod(0o600)
    return f"sqlite://{path}"


def write_files(folder: Path, records: Iterable[tuple[str, str]]) -> str:
    """Writes upstream's files; returns the store's URL."""
    folder.mkdir(mode=0o700)
    for name, record in records:
        path = folder / (name.replace(":", "_") + ".json")
        path.touch(0o600)
        path.write_text(record)
    return f"file://{folder}"
