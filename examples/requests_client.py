"""Writes a record with requests: `auth_headers`, and the three refusals that a client has to answer.

    python requests_client.py STORE ACCOUNT [TEXT]

Whoever may choose takes httpx and `SessionAuth`, which does all of this. Prints the URI of the record.
"""

import sys
import time
from datetime import UTC, datetime
from typing import Any

import requests

from idiolectd import OAuthSession, auth_headers, load_session

PATIENCE = 10.0  # seconds; for the save after a rotation, or a daemon that is restarted just then


class StoredSession:
    """Calls the PDS of a stored session."""

    def __init__(self, store: str, account: str) -> None:
        self.store = store
        self.did = load_session(store, account).did
        self.nonce: str | None = None
        self.http = requests.Session()

    def call(self, method: str, nsid: str, **options: Any) -> requests.Response:
        """Calls an XRPC method; `options` as of requests, with a body that can be sent twice."""
        session = load_session(self.store, self.did)  # for every call: a rotation is adopted at once
        answer = self._send(session, method, nsid, options)
        if is_about(answer, "use_dpop_nonce"):  # it came along with the refusal
            answer = self._send(session, method, nsid, options)
        if is_about(answer, "invalid_token", "ExpiredToken"):
            session = self._wait_newer(session)
            answer = self._send(session, method, nsid, options)
        return answer

    def _send(
        self, session: OAuthSession, method: str, nsid: str, options: dict[str, Any]
    ) -> requests.Response:
        url = f"{session.pds_url}/xrpc/{nsid}"
        headers = auth_headers(session, method, url, nonce=self.nonce)  # good for this one request
        # No redirects: a token goes to nobody but its PDS.
        answer = self.http.request(method, url, headers=headers, allow_redirects=False, timeout=30, **options)
        self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
        return answer

    def _wait_newer(self, refused: OAuthSession) -> OAuthSession:
        end = time.monotonic() + PATIENCE
        while (session := load_session(self.store, self.did)).access_jwt == refused.access_jwt:
            if time.monotonic() >= end:
                raise TimeoutError(f"no new token is stored; see: idiolectd status {self.did}")
            time.sleep(0.1)
        return session


def is_about(answer: requests.Response, *errors: str) -> bool:
    """Whether an answer refuses a request for one of these reasons."""
    if answer.status_code not in (400, 401):
        return False
    said = answer.headers.get("WWW-Authenticate", "") + answer.text
    return any(f'"{error}"' in said for error in errors)


def create_record(store: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    session = StoredSession(store, account)
    post = {"$type": "app.bsky.feed.post", "text": text, "createdAt": datetime.now(UTC).isoformat()}
    with session.http:
        answer = session.call(
            "POST",
            "com.atproto.repo.createRecord",
            json={"repo": session.did, "collection": "app.bsky.feed.post", "record": post},
        )
    answer.raise_for_status()
    uri: str = answer.json()["uri"]
    return uri


if __name__ == "__main__":
    print(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello"))
