"""One request with each HTTP library, signed by the package's adapter for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import aiohttp
import httpx
import httpx2
import requests

import idiolectd
from idiolectd.adapters import aiohttp as aiohttp_adapter
from idiolectd.adapters import httpx2 as httpx2_adapter
from idiolectd.adapters import requests as requests_adapter

Library = Literal["httpx", "httpx async", "httpx2", "httpx2 async", "requests", "aiohttp"]
LIBRARIES: tuple[Library, ...] = get_args(Library)


@dataclass(frozen=True)
class Answer:
    """What a library made of an answer."""

    status: int
    json: Any


def auth_of(library: Library) -> Callable[..., Any]:
    """The `SessionAuth` for a library."""
    if library.startswith("httpx2"):
        return httpx2_adapter.SessionAuth
    if library == "requests":
        return requests_adapter.SessionAuth
    return aiohttp_adapter.SessionAuth if library == "aiohttp" else idiolectd.SessionAuth


def fetch(library: Library, auth: Any, url: str, data: bytes | Iterator[bytes] | None = None) -> Answer:
    """One GET, or a POST of `data`; the library follows redirects and closes what it opened."""
    method = "GET" if data is None else "POST"
    headers = {} if data is None else {"Content-Type": "application/json"}
    if library == "requests":
        with requests.Session() as session:
            session.trust_env = False
            found = session.request(method, url, data=data, headers=headers, auth=auth, timeout=30)
            return Answer(found.status_code, found.json())
    if library in ("httpx", "httpx2"):
        module: Any = httpx if library == "httpx" else httpx2
        with module.Client(auth=auth, trust_env=False, timeout=30) as http:
            answer = http.request(method, url, content=data, headers=headers)
            return Answer(answer.status_code, answer.json())

    async def main() -> Answer:
        content = data if data is None or isinstance(data, bytes) else _async(data)
        if library == "aiohttp":
            async with (
                aiohttp.ClientSession(middlewares=[auth]) as session,
                session.request(method, url, data=content, headers=headers) as found,
            ):
                return Answer(found.status, await found.json())
        module: Any = httpx if library == "httpx async" else httpx2
        async with module.AsyncClient(auth=auth, trust_env=False, timeout=30) as http:
            answer = await http.request(method, url, content=content, headers=headers)
            return Answer(answer.status_code, answer.json())

    return asyncio.run(main())


async def _async(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
