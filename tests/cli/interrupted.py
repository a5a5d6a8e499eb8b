"""A program that uses a session and refreshes by itself; `test_interrupted` interrupts it meanwhile."""

import asyncio
import sys

import httpx
import trio

from idiolectd import SessionAuth


async def main(did: str, url: str) -> None:
    auth = SessionAuth(None, did, refresh=True)
    async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=30) as http:
        await http.get(f"{url}/xrpc/com.atproto.server.getSession")


if __name__ == "__main__":
    _, loop, did, url = sys.argv
    if loop == "trio":
        trio.run(main, did, url)
    else:
        asyncio.run(main(did, url))
