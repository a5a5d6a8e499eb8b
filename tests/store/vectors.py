"""Makes the test vectors for readers in other languages: ``docs/vectors.json`` is this text.

A test compares the two, so the vectors are what this version does; `python -m tests.store.vectors` writes them. They
must only ever grow: a vector that changes breaks every reader that has been written from the document.
"""

import json
from pathlib import Path
from typing import Any

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import SessionError
from idiolectd.jose import token_hash
from idiolectd.session import OAuthSession
from idiolectd.store.locks.claims import _claim_byte

VECTORS = Path(__file__).parents[2] / "docs" / "vectors.json"

_DIDS = (
    "did:plc:z72i7hdynmk6r22z27h6tvur",
    "did:web:example.com",
    "did:web:localhost%3A3000",
    "did:web:a:b.example",
    "did:web:a_b.example",
)

_JWK = '{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}'
_DPOP = {
    "did": _DIDS[0],
    "pdsUrl": "https://pds.example",
    "accessJwt": "access-1",
    "refreshJwt": "refresh-1",
    "dpopPrivateKeyJwk": _JWK,
    "tokenType": "DPoP",
    "scope": "atproto transition:generic",
    "handle": "alice.example",
    "issuedAt": "2026-01-02T03:04:05Z",
    "expiresAt": "2026-01-02T05:04:05+01:00",
}
# {"iat": 1767323045, "exp": 1767326645}
_JWT = "eyJhbGciOiJFUzI1NksifQ.eyJpYXQiOjE3NjczMjMwNDUsImV4cCI6MTc2NzMyNjY0NX0.c2ln"

_RECORDS: dict[str, dict[str, Any]] = {
    "a DPoP session": _DPOP,
    "with fields that nobody knows": {**_DPOP, "theirs": {"kept": [1, None]}},
    "with ours": {
        **_DPOP,
        "issuer": "https://issuer.example",
        "clientId": "http://localhost",
        "confirmedHandle": "alice.example",
    },
    "a session with an app password": {**_DPOP, "dpopPrivateKeyJwk": "", "tokenType": "Bearer"},
    "as idiolect oauth login writes it": {
        "did": _DIDS[0],
        "handle": "alice.example",
        "pds_url": "https://pds.example",
        "accessJwt": _JWT,
        "refreshJwt": "refresh-1",
    },
}
_VIEWED: dict[str, dict[str, Any]] = {
    "an entry of a view": {**_DPOP, "refreshJwt": "", "state": "fresh"},
    "an entry of a dead session": {
        **_DPOP,
        "refreshJwt": "",
        "state": "relogin_required",
        "cause": "revoked",
        "stateMessage": "Session was revoked",
    },
}
# One sealed text. Each sealing is another, so this one was made once.
SEALED = {
    "did": _DIDS[0],
    "pdsUrl": "https://pds.example",
    "field": "refreshJwt",
    "keyId": "2026-11",
    "keyHex": bytes(range(32)).hex(),
    "sealed": "sealed:1:2026-11:KLWGkJgXutInWJXUJg8IzA:1qTxib76geikTtLEABgSO9sO1KRZRsACcw",
    "open": "refresh-1",
}
_NO_RECORDS = {
    "no JSON": "{",
    "no object": "[]",
    "no token": json.dumps({**_DPOP, "accessJwt": ""}),
    "a number for a text": json.dumps({**_DPOP, "pdsUrl": 1}),
    "no DID": json.dumps({**_DPOP, "did": "alice.example"}),
}
_NO_RECORD_OF_A_STORE = {"an entry of a view in a store": json.dumps({**_DPOP, "refreshJwt": ""})}


def vectors() -> dict[str, Any]:
    """The vectors of this version."""
    for why, text in (_NO_RECORDS | _NO_RECORD_OF_A_STORE).items():
        try:
            OAuthSession.from_json(text)
        except SessionError:
            continue
        raise AssertionError(f"{why}: it was read")
    return {
        "version": 1,
        "dids": [
            {
                "did": did,
                "fileName": file_name(did),
                "upstreamFileName": upstream_file_name(did),
                "claimByte": str(_claim_byte(did)),  # as text: JSON's numbers are inexact in some languages
            }
            for did in _DIDS
        ],
        "tokenHashes": {token: token_hash(token) for token in ("refresh-1", "é", _JWT)},
        "records": [
            {"what": what, "record": json.dumps(record), "read": _read(record, viewed=viewed), "view": viewed}
            for viewed, records in ((False, _RECORDS), (True, _VIEWED))
            for what, record in records.items()
        ],
        "sealed": SEALED,
        "noRecords": [
            {"what": what, "record": text, "inView": in_view}  # whether a reader of views takes it
            for in_view, records in ((False, _NO_RECORDS), (True, _NO_RECORD_OF_A_STORE))
            for what, text in records.items()
        ],
    }


def _read(record: dict[str, Any], *, viewed: bool) -> dict[str, Any]:
    session = OAuthSession.from_json(json.dumps(record), viewed=viewed)
    return {
        "did": session.did,
        "pdsUrl": session.pds_url,
        "accessJwt": session.access_jwt,
        "refreshJwt": session.refresh_jwt,
        "kind": session.kind,
        "issuedAt": session.issued_at,
        "expiresAt": session.expires_at,
        "dpopThumbprint": session.dpop_thumbprint,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
