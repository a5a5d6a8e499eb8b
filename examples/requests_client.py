"""Writes a record with requests: com.atproto.repo.createRecord, authorized by its `SessionAuth`.

    python requests_client.py STORE ACCOUNT [TEXT]

STORE is a store URL or a path, ACCOUNT a DID or a handle in it. Prints the URI of the new record.
"""

import sys
from datetime import UTC, datetime

import requests

from idiolectd import load_session
from idiolectd.adapters.requests import SessionAuth


def create_record(store: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    session = load_session(store, account)  # for the PDS and the DID; the tokens may change meanwhile
    post = {"$type": "app.bsky.feed.post", "text": text, "createdAt": datetime.now(UTC).isoformat()}
    with requests.Session() as http:
        http.auth = SessionAuth(store, session.did)
        answer = http.post(
            f"{session.pds_url}/xrpc/com.atproto.repo.createRecord",
            json={"repo": session.did, "collection": "app.bsky.feed.post", "record": post},
            timeout=30,
        )
    answer.raise_for_status()
    uri: str = answer.json()["uri"]
    return uri


if __name__ == "__main__":
    print(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello"))
