"""`SessionAuth` for httpx2, the continuation of httpx under another name."""

from typing import Any, ClassVar

import httpx2

from idiolectd.adapters.httpx_flow import HttpxFlow


class SessionAuth(HttpxFlow, httpx2.Auth):
    """Authorizes the requests of an `httpx2.Client` or `httpx2.AsyncClient`. See `idiolectd.SessionAuth`."""

    library: ClassVar[Any] = httpx2
