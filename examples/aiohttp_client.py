"""Writes a record with aiohttp: `auth_headers`, and the three refusals that a client has to answer.

    python aiohttp_client.py STORE ACCOUNT [TEXT]

Whoever may choose takes httpx and `SessionAuth`, which does all of this. Prints the URI of the record.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from idiolectd import NoSessionError, OAuthSession, OAuthTokenStore, auth_headers, load_session, open_store

PATIENCE = 10.0  # seconds; for the save after a rotation, or a daemon that is restarted just then


@dataclass
class StoredSession:
    """Calls the PDS of a stored session."""

    store: OAuthTokenStore
    did: str
    http: aiohttp.ClientSession
    nonce: str | None = None

    async def call(self, method: str, nsid: str, **options: Any) -> tuple[int, str]:
        """Calls an XRPC method; `options` as of aiohttp, with a body that can be sent twice.

        Returns:
            The status and the text of the answer.
        """
        session = await self._load()  # for every call: a rotation is adopted at once
        status, text, said = await self._send(session, method, nsid, options)
        if is_about(status, said, "use_dpop_nonce"):  # it came along with the refusal
            status, text, said = await self._send(session, method, nsid, options)
        if is_about(status, said, "invalid_token", "ExpiredToken"):
            session = await self._wait_newer(session)
            status, text, said = await self._send(session, method, nsid, options)
        return status, text

    async def _send(
        self, session: OAuthSession, method: str, nsid: str, options: dict[str, Any]
    ) -> tuple[int, str, str]:
        url = f"{session.pds_url}/xrpc/{nsid}"
        headers = auth_headers(session, method, url, nonce=self.nonce)  # good for this one request
        # No redirects: a token goes to nobody but its PDS.
        sending = self.http.request(method, url, headers=headers, allow_redirects=False, **options)
        async with sending as answer:
            self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
            text = await answer.text()
            return answer.status, text, answer.headers.get("WWW-Authenticate", "") + text

    async def _wait_newer(self, refused: OAuthSession) -> OAuthSession:
        end = time.monotonic() + PATIENCE
        while (session := await self._load()).access_jwt == refused.access_jwt:
            if time.monotonic() >= end:
                raise TimeoutError(f"no new token is stored; see: idiolectd status {self.did}")
            await asyncio.sleep(0.1)
        return session

    async def _load(self) -> OAuthSession:
        session = await self.store.load(self.did)
        if session is None:
            raise NoSessionError(self.did)
        return session


def is_about(status: int, said: str, *errors: str) -> bool:
    """Whether an answer refuses a request for one of these reasons."""
    return status in (400, 401) and any(f'"{error}"' in said for error in errors)


async def create_record(store_url: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    did = load_session(store_url, account).did
    post = {"$type": "app.bsky.feed.post", "text": text, "createdAt": datetime.now(UTC).isoformat()}
    async with open_store(store_url) as store, aiohttp.ClientSession() as http:
        status, answer = await StoredSession(store, did, http).call(
            "POST",
            "com.atproto.repo.createRecord",
            json={"repo": did, "collection": "app.bsky.feed.post", "record": post},
        )
    if status != 200:
        raise RuntimeError(f"{status}: {answer}")
    uri: str = json.loads(answer)["uri"]
    return uri


if __name__ == "__main__":
    print(asyncio.run(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello")))
