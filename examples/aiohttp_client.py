"""Writes a record with aiohttp: com.atproto.repo.createRecord, authorized by its `SessionAuth`.

    python aiohttp_client.py STORE ACCOUNT [TEXT]

STORE is a store URL or a path, ACCOUNT a DID or a handle in it. Prints the URI of the new record.
"""

import asyncio
import sys
from datetime import UTC, datetime

import aiohttp

from idiolectd import load_session
from idiolectd.adapters.aiohttp import SessionAuth


async def create_record(store: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    session = load_session(store, account)  # for the PDS and the DID; the tokens may change meanwhile
    post = {"$type": "app.bsky.feed.post", "text": text, "createdAt": datetime.now(UTC).isoformat()}
    async with (
        aiohttp.ClientSession(middlewares=[SessionAuth(store, session.did)]) as http,
        http.post(
            f"{session.pds_url}/xrpc/com.atproto.repo.createRecord",
            json={"repo": session.did, "collection": "app.bsky.feed.post", "record": post},
        ) as answer,
    ):
        answer.raise_for_status()
        uri: str = (await answer.json())["uri"]
    return uri


if __name__ == "__main__":
    print(asyncio.run(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello")))
