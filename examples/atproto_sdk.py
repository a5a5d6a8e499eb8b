"""Writes a record with the `atproto` SDK: its client as if it were logged in.

    python atproto_sdk.py STORE ACCOUNT [TEXT]

The SDK never logs in and never refreshes: idiolectd's `SessionAuth` authorizes its requests. Prints the URI of
the new record.
"""

import sys

from idiolectd.adapters.atproto import client


def create_record(store: str, account: str, text: str) -> str:
    """Writes a post; returns its at:// URI."""
    return str(client(store, account).send_post(text).uri)


if __name__ == "__main__":
    print(create_record(sys.argv[1], sys.argv[2], " ".join(sys.argv[3:]) or "hello"))
