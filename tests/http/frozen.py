"""A program that sends requests at once and prints what came of each; `test_frozen` stops it meanwhile."""

import json
import sys

import anyio

from idiolectd.errors import TransportError
from idiolectd.http import CutOff, HttpClient
from tests.http.support import house


async def ask(client: HttpClient, url: str, deadline: float) -> str:
    try:
        response = await client.request("POST", url, form={"a": "b"}, deadline=deadline)
    except CutOff as error:
        return f"CutOff {error.code} {error.response.members().get('refresh_token')}"
    except TransportError as error:
        return f"{type(error).__name__} {error.code}"
    return f"{response.status} {response.members().get('refresh_token')}"


async def main(deadline: float, *urls: str) -> None:
    found: dict[str, str] = {}

    async def one(url: str) -> None:
        found[url] = await ask(w.client, url, deadline)

    async with house() as w, anyio.create_task_group() as tasks:
        for url in urls:
            tasks.start_soon(one, url)
    print(json.dumps([found[url] for url in urls]))


if __name__ == "__main__":
    backend, deadline, *urls = sys.argv[1:]
    anyio.run(main, float(deadline), *urls, backend=backend)
