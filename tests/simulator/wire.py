"""Requests and answers as plain values, and the three shapes of error that the servers speak.

Does: hold what arrived and what is to be sent, and build OAuth, XRPC and bare answers.
Does not: know about sockets, httpx, accounts or tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case, ``url`` is absolute."""

    method: str
    url: str
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    @property
    def origin(self) -> str:
        """Scheme, host and port as the client wrote them."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return unquote(urlsplit(self.url).path) or "/"

    @property
    def query(self) -> dict[str, str]:
        """The query's first value of each name."""
        parsed = parse_qs(urlsplit(self.url).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}

    def get_all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True)
class Response:
    """One answer, complete."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    def get(self, name: str) -> str | None:
        """The first value of a header, its name in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def plus(self, *headers: tuple[str, str]) -> Response:
        """The same answer with more headers."""
        return Response(self.status, [*self.headers, *headers], self.body)


class Refused(Exception):
    """Ends a request with the answer it carries."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status, response.body)
        self.response = response


def json_response(status: int, value: Any, *headers: tuple[str, str]) -> Response:
    """An answer with a JSON body."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status, [("Content-Type", "application/json; charset=utf-8"), *headers], body)


def oauth_error(status: int, error: str, description: str) -> Refused:
    """The authorization server's shape (RFC 6749, 5.2); a 401 also carries ``WWW-Authenticate``."""
    headers: Headers = [("Cache-Control", "no-store"), ("Pragma", "no-cache")]
    if status == 401:
        headers.append(
            ("WWW-Authenticate", f'DPoP error="{error}", error_description="{_quoted(description)}"')
        )
    return Refused(json_response(status, {"error": error, "error_description": description}, *headers))


def xrpc_error(status: int, error: str, message: str, *headers: tuple[str, str]) -> Refused:
    """The PDS's shape."""
    return Refused(json_response(status, {"error": error, "message": message}, *headers))


def resource_error(error: str, description: str) -> Refused:
    """The PDS's shape for a refused DPoP-bound request (RFC 9449, 7.1): always 401."""
    challenge = f'DPoP algs="ES256 ES256K", error="{error}", error_description="{_quoted(description)}"'
    return xrpc_error(401, error, description, ("WWW-Authenticate", challenge))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
