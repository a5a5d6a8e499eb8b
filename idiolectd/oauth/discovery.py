"""Finds the authorization server of a PDS, and the endpoints of an authorization server.

A PDS names its issuer in ``/.well-known/oauth-protected-resource`` (RFC 9728); the issuer lists its endpoints
in ``/.well-known/oauth-authorization-server`` (RFC 8414). Metadata is accepted only if the `issuer` in it is
the URL that it was fetched from. Answers are cached; tasks that ask for the same at the same time share one
request.

Does not decide which issuer a session belongs to, and never replaces the one in a session's record.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from idiolectd.clock import Clock
from idiolectd.errors import NotSent, Unclear
from idiolectd.http import HttpClient, Response, is_our_refusal, origin, retry_after
from idiolectd.outcome import Code, Retry
from idiolectd.url import Url

# Seconds. Endpoints move rarely; when one has moved, `Discovery.forget` drops the cached answer.
_KEPT = 3600.0

# Seconds. Many sessions of one server are refreshed together: a dead server is asked once, not once for each.
_FAILURE_KEPT = 10.0

_MAX_KEPT = 4096

_LOGIN_ENDPOINTS = ("authorization_endpoint", "pushed_authorization_request_endpoint")
_LOGIN_VALUES = {
    "code_challenge_methods_supported": "S256",
    "dpop_signing_alg_values_supported": "ES256",
    "scopes_supported": "atproto",
}


@dataclass(frozen=True)
class AuthorizationServer:
    """The part of an authorization server's metadata (RFC 8414) that is used.

    Attributes:
        issuer: the issuer identifier, which is also the audience of client assertions.
        token_endpoint: as in the metadata.
        revocation_endpoint: as in the metadata; None: the server has none.
        authorization_endpoint: as in the metadata.
        pushed_authorization_request_endpoint: as in the metadata (RFC 9126).
        unfit_for_login: what a login needs and the metadata lacks, as messages for people; refreshing needs
            none of it.
    """

    issuer: str
    token_endpoint: Url
    revocation_endpoint: Url | None
    authorization_endpoint: Url | None = None
    pushed_authorization_request_endpoint: Url | None = None
    unfit_for_login: tuple[str, ...] = ()


class Discovery:
    """Looks servers up. A look-up that fails returns a `Retry` and raises nothing.

    The `Retry` names the server that was asked: a PDS's wrong answer does not count against its issuer.
    """

    def __init__(self, http: HttpClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._issuers = _Cache(self._fetch_issuer)
        self._servers = _Cache(self._fetch_server)

    async def issuer_of_pds(self, pds_url: str) -> str | Retry:
        """The issuer whose tokens a PDS accepts."""
        try:
            return await self._issuers.get(origin(pds_url))
        except NotSent as error:
            return Retry(Code.DISCOVERY, str(error))

    async def server(self, issuer: str) -> AuthorizationServer | Retry:
        """The metadata of an issuer's authorization server."""
        return await self._servers.get(issuer)

    def issuer_of(self, url: str) -> str | None:
        """The canonical form of an issuer (scheme, host and port); None: it can't be an issuer.

        Programs also write issuers with a slash at the end, in upper case, or with the default port.
        """
        try:
            found = self._http.target(url)
        except NotSent:
            return None
        is_bare = found.path == "/" and not found.query and not found.has_fragment
        return found.origin if is_bare else None

    def forget(self, issuer: str) -> None:
        """Drops an issuer's cached metadata, after an endpoint did not answer as one does."""
        self._servers.forget(issuer)

    async def _fetch_issuer(self, pds: str) -> str | Retry:
        document = await self._document("PDS", f"{pds}/.well-known/oauth-protected-resource")
        if isinstance(document, Retry):
            return document
        # RFC 9728, section 3.3. Of several authorization servers ATProto uses the first.
        if document.get("resource") != pds:
            return _unusable(f"the PDS {pds}", pds, "its OAuth metadata speaks of another server")
        issuers = document.get("authorization_servers")
        first = issuers[0] if isinstance(issuers, list) and issuers else None
        if not isinstance(first, str) or not self._is_issuer(first):
            return _unusable(f"the PDS {pds}", pds, "its OAuth metadata names no usable authorization server")
        return first

    async def _fetch_server(self, issuer: str) -> AuthorizationServer | Retry:
        if not self._is_issuer(issuer):
            return Retry(Code.DISCOVERY, "the issuer is not the URL of one")
        document = await self._document("issuer", f"{issuer}/.well-known/oauth-authorization-server")
        if isinstance(document, Retry):
            return document
        if document.get("issuer") != issuer:  # RFC 8414, section 3.3
            return _unusable(f"the issuer {issuer}", issuer, "its OAuth metadata speaks of another issuer")
        token_endpoint = self._endpoint(document, "token_endpoint")
        if token_endpoint is None:
            return _unusable(
                f"the issuer {issuer}", issuer, "its OAuth metadata names no usable token endpoint"
            )
        endpoints = {name: self._login_endpoint(document, name) for name in _LOGIN_ENDPOINTS}
        unfit = [f"{name} is missing or can't be used" for name, url in endpoints.items() if url is None]
        return AuthorizationServer(
            issuer,
            token_endpoint,
            self._endpoint(document, "revocation_endpoint"),
            **endpoints,
            unfit_for_login=(*unfit, *_unfit_for_login(document)),
        )

    def _endpoint(self, document: Mapping[str, object], name: str) -> Url | None:
        """The URL of an endpoint; None: the metadata names none, or one that requests must not go to."""
        url = document.get(name)
        return self._http.target(url) if isinstance(url, str) and self._http.permits(url) else None

    def _login_endpoint(self, document: Mapping[str, object], name: str) -> Url | None:
        """As `_endpoint`; the URL must have no fragment (RFC 6749, section 3.1)."""
        url = self._endpoint(document, name)
        return None if url is None or url.has_fragment else url

    async def _document(self, role: str, url: str) -> dict[str, object] | Retry:
        try:
            response = await self._http.request("GET", url)
        except (NotSent, Unclear) as error:
            return Retry(
                error.code,
                f"the {role} can't be asked: {error}",
                issuer_wide=not is_our_refusal(error),
                server=origin(url),
            )
        document = response.json_object() if response.status == 200 else None
        return self._refused(role, url, response) if document is None else document

    def _refused(self, role: str, url: str, response: Response) -> Retry:
        return Retry(
            f"http_{response.status}" if response.may_pass else Code.DISCOVERY,
            f"the {role} answered {response.status} at {url}, without the OAuth metadata",
            retry_after(response, self._clock.now()),
            issuer_wide=True,
            server=origin(url),
        )

    def _is_issuer(self, url: str) -> bool:
        """Whether a URL has the form of an ATProto issuer: scheme, host and port, nothing else."""
        return self._http.permits(url) and origin(url) == url


def _unfit_for_login(document: Mapping[str, object]) -> list[str]:
    """Which requirements of ATProto that a login relies on the metadata does not meet.

    https://atproto.com/specs/oauth#authorization-servers
    """
    unfit = [
        f"{name} lacks {value}"
        for name, value in _LOGIN_VALUES.items()
        if not isinstance(found := document.get(name), list) or value not in found
    ]
    # RFC 9207, section 3. Without it, a code that another server issued could be injected.
    if document.get("authorization_response_iss_parameter_supported") is not True:
        unfit.append("authorization_response_iss_parameter_supported is not true")
    return unfit


def _unusable(who: str, server: str, message: str) -> Retry:
    return Retry(Code.DISCOVERY, f"{who}: {message}", issuer_wide=True, server=server)


ValueT = TypeVar("ValueT")


@dataclass
class _CacheEntry(Generic[ValueT]):
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    value: ValueT | Retry | None = None
    until: float = 0.0


class _Cache(Generic[ValueT]):
    """A cache that runs one look-up at a time for each key; other tasks wait for its result."""

    def __init__(self, fetch: Callable[[str], Awaitable[ValueT | Retry]]) -> None:
        self._fetch = fetch
        self._entries: OrderedDict[str, _CacheEntry[ValueT]] = OrderedDict()

    async def get(self, key: str) -> ValueT | Retry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _CacheEntry()
            if len(self._entries) > _MAX_KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        if entry.value is not None and anyio.current_time() < entry.until:
            return entry.value
        # The task that holds the lock does the look-up; if it is cancelled, the next one does.
        async with entry.lock:
            if entry.value is None or anyio.current_time() >= entry.until:
                value = await self._fetch(key)
                entry.value = value
                entry.until = anyio.current_time() + (_FAILURE_KEPT if isinstance(value, Retry) else _KEPT)
            return entry.value

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)
