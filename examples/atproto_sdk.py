"""Writes a record with the `atproto` SDK, with `SessionAuth` under its httpx client.

    python atproto_sdk.py STORE ACCOUNT [TEXT]

The SDK never logs in and never refreshes: it sends what it is told to, and idiolectd's session makes
it the account's. Its namespaces (``client.com.atproto…``) work; its shortcuts that want a login
(``client.send_post``) don't. Prints the URI of the new record.
"""

import sys
from datetime import UTC, datetime

from atproto import Client, Request, models  # type: ignore[import-untyped]  # it ships no py.typed

from idiolectd import SessionAuth, load_session


def create_record(store: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    session = load_session(store, account)
    request = Request(auth=SessionAuth(store, session.did))
    try:
        client = Client(base_url=session.pds_url, request=request)
        post = models.AppBskyFeedPost.Record(text=text, created_at=datetime.now(UTC).isoformat())
        made = client.com.atproto.repo.create_record(
            models.ComAtprotoRepoCreateRecord.Data(
                repo=session.did, collection="app.bsky.feed.post", record=post
            )
        )
    finally:
        request.close()
    return str(made.uri)


if __name__ == "__main__":
    print(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello"))
