"""Resolves accounts: a handle to its DID, a DID to its PDS, and checks that handle and DID name each other.

Handles: https://atproto.com/specs/handle; DIDs: https://atproto.com/specs/did. A handle is confirmed only if
the DID's document names it too. A DID document is accepted only from the place that the DID method defines.
Nothing is cached: logins and weekly checks ask anew.

Every failure is an `IdentityError`; its `final` tells a negative answer from a source that could not be
asked.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

import anyio

from idiolectd.did import is_meant_as_did, parse_did
from idiolectd.errors import DidError, IdentityError, NotSent, Unclear
from idiolectd.http import HttpClient, Response, origin
from idiolectd.identity.txt import DnsTxt, TxtLookup
from idiolectd.session import normal_handle
from idiolectd.url import xrpc_url

# ATProto's placeholder for the handle of an account whose handle and DID don't name each other.
INVALID_HANDLE = "handle.invalid"

# https://atproto.com/specs/handle: labels of letters, digits and hyphens, the last not all digits.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HANDLE = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII)
_MAX_HANDLE = 253

# Names in these domains have a meaning on one machine or network only, so they name no account.
_LOCAL_DOMAINS = ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion")

_HTTP_SECONDS = 10.0  # for one look-up, redirects included

_REDIRECTIONS = (301, 302, 303, 307, 308)
_REDIRECTS = 5

_PDS_ID = "#atproto_pds"
_PDS_TYPE = "AtprotoPersonalDataServer"


@dataclass(frozen=True)
class DidDocument:
    """The part of a DID document that is used.

    Attributes:
        did: the DID that it describes.
        handle: the handle that it claims, unconfirmed; None: none.
        pds_url: the origin of the account's PDS; None: none, or not a usable URL.
    """

    did: str
    handle: str | None
    pds_url: str | None


@dataclass(frozen=True)
class Account:
    """An account; its handle is checked in both directions.

    Attributes:
        did: its DID.
        handle: its confirmed handle, or `INVALID_HANDLE`.
        pds_url: the origin of its PDS.
        claimed: the handle that its document claims, confirmed or not; None: none.
    """

    did: str
    handle: str
    pds_url: str
    claimed: str | None = None


class Identity:
    """Resolves accounts.

    Args:
        http: sends the requests.
        plc_directory_url: the directory of did:plc documents.
        handle_resolver_url: a service that resolves handles (``com.atproto.identity.resolveHandle``).
            If one is configured, only it is asked: it is for networks where DNS and HTTPS look-ups don't
            work (no outside DNS) or must not be used (they show every handle's host who asks). Its
            answer is checked against the DID document too.
        txt: looks up TXT records.
    """

    def __init__(
        self,
        http: HttpClient,
        plc_directory_url: str,
        handle_resolver_url: str | None = None,
        *,
        txt: TxtLookup | None = None,
    ) -> None:
        self._http = http
        self._plc_directory_url = plc_directory_url.rstrip("/")
        self._handle_resolver_url = handle_resolver_url.rstrip("/") if handle_resolver_url else None
        self._txt: TxtLookup = txt if txt is not None else DnsTxt()

    async def resolve_account(self, text: str, *, or_at: str | None = None) -> Account:
        """Resolves an account by its DID or handle.

        Args:
            text: the DID or handle, with or without ``@``.
            or_at: a server that is asked for a handle that does not resolve publicly, as on a development
                server or while the DNS is down. The DID's document must still name the handle, and the
                handle stays unconfirmed.

        Raises:
            IdentityError: it does not resolve, its handle and DID don't name each other, or it has
                no PDS. A DID whose handle can't be confirmed now is no error: see `Account`.
        """
        text = text.strip()
        if is_meant_as_did(text):
            document = await self.resolve_did(text)
            handle = await self.confirmed_handle(document) or INVALID_HANDLE
        else:
            named = parse_handle(text)
            did, handle = await self._did_of(named, or_at)
            document = await self.resolve_did(did)
            if document.handle != named:
                raise IdentityError(f"{named} leads to {did}, whose document does not name it", final=True)
        if document.pds_url is None:
            raise IdentityError(f"{document.did}: its document names no usable PDS", final=True)
        return Account(document.did, handle, document.pds_url, document.handle)

    async def _did_of(self, handle: str, or_at: str | None) -> tuple[str, str]:
        """The DID of a handle, and the handle if it resolved publicly, else `INVALID_HANDLE`."""
        try:
            return await self.resolve_handle(handle), handle
        except IdentityError:
            if or_at is None:
                raise
        return await self._by_service(handle, or_at.rstrip("/")), INVALID_HANDLE

    async def confirmed_handle(self, document: DidDocument) -> str | None:
        """The handle that a document claims, if it leads back to the DID.

        Returns:
            The handle; empty if the document claims none or it leads elsewhere; None: no source could be
            asked.
        """
        if document.handle is None:
            return ""
        try:
            found = await self.resolve_handle(document.handle)
        except IdentityError as error:
            return "" if error.final else None
        return document.handle if found == document.did else ""

    # Handles ---------------------------------------------------------------------------------

    async def resolve_handle(self, handle: str) -> str:
        """The DID that a handle claims. Callers must check the DID's document before they rely on it.

        Raises:
            IdentityError: see the module.
        """
        handle = parse_handle(handle)
        if self._handle_resolver_url is not None:
            return await self._by_service(handle, self._handle_resolver_url)
        # DNS first: the domain's owner controls it, while others may be able to put files on the host.
        failed: IdentityError | None = None
        try:
            did = await self._by_dns(handle)
        except IdentityError as error:
            if error.final:
                raise
            did, failed = None, error
        if did is None:
            did = await self._by_well_known(handle)
        if did is not None:
            return did
        if failed is not None:
            raise failed
        raise IdentityError(f"{handle} names no DID, in the DNS or on its host", final=True)

    async def _by_dns(self, handle: str) -> str | None:
        records = await self._txt(f"_atproto.{handle}")
        dids = {record.removeprefix("did=") for record in records if record.startswith("did=")}
        if len(dids) > 1:
            raise IdentityError(f"{handle}: the DNS names several DIDs", final=True)
        return _did(dids.pop(), handle) if dids else None

    async def _by_well_known(self, handle: str) -> str | None:
        response = await self._followed(
            f"https://{handle}/.well-known/atproto-did", f"the web server of the handle {handle}"
        )
        if response.status != 200:
            if response.status in (404, 410):
                return None
            raise IdentityError(
                f"the web server of the handle {handle} answered {response.status}", final=False
            )
        text = response.body.decode("ascii", "replace").strip()
        # Many hosts answer every request with a page: that counts as no answer, not as a wrong one.
        return _did(text, handle) if is_meant_as_did(text) else None

    async def _by_service(self, handle: str, url: str) -> str:
        """Asks one server only (``com.atproto.identity.resolveHandle``)."""
        method = xrpc_url(url, "com.atproto.identity.resolveHandle")
        response = await self._get(f"{method}?handle={handle}", "the handle resolver")
        body = response.json_object()
        if response.status == 400 and body is not None:
            raise IdentityError(f"{handle} does not resolve, says the handle resolver {url}", final=True)
        did = body.get("did") if body is not None and response.status == 200 else None
        if not isinstance(did, str):
            raise IdentityError(f"the handle resolver {url} answered {response.status}", final=False)
        return _did(did, handle)

    # DIDs ------------------------------------------------------------------------------------

    async def resolve_did(self, did: str) -> DidDocument:
        """The document of a did:plc or did:web.

        Raises:
            IdentityError: see the module.
        """
        try:
            parse_did(did)
        except DidError as error:
            raise IdentityError(str(error), final=True) from None
        source = "the PLC directory" if did.startswith("did:plc:") else f"the web server of {did}"
        url = self._document_url(did)
        response = await self._get(url, source)
        if response.status in (404, 410):
            raise IdentityError(f"{did} does not exist, or does no longer, says {source} ({url})", final=True)
        body = response.json_object() if response.status == 200 else None
        if body is None:
            raise IdentityError(
                f"{source} answered {response.status} instead of a document ({url})", final=False
            )
        if body.get("id") != did:
            raise IdentityError(f"the document of {did} is another DID's", final=True)
        return DidDocument(did, _claimed_handle(body), self._pds_url(did, body))

    def _document_url(self, did: str) -> str:
        method, _, rest = did.removeprefix("did:").partition(":")
        if method == "plc":
            return f"{self._plc_directory_url}/{quote(did, safe=':')}"
        # ATProto: a host without a path; a port only on localhost, for development.
        host, _, port = rest.replace("%3a", "%3A").partition("%3A")
        is_localhost = host == "localhost" and (not port or port.isdecimal())
        if method != "web" or not (is_localhost or (not port and _HANDLE.fullmatch(host.lower()))):
            raise IdentityError(f"{did}: only did:plc and did:web with a bare host are used", final=True)
        if is_localhost:
            return f"http://localhost{':' + port if port else ''}/.well-known/did.json"
        return f"https://{host}/.well-known/did.json"

    def _pds_url(self, did: str, document: dict[str, Any]) -> str | None:
        services = document.get("service")
        for service in services if isinstance(services, list) else ():
            if (
                isinstance(service, dict)
                and service.get("id") in (_PDS_ID, did + _PDS_ID)
                and service.get("type") == _PDS_TYPE
            ):
                url = service.get("serviceEndpoint")
                return origin(url) if isinstance(url, str) and self._http.permits(url) else None
        return None

    async def _followed(self, url: str, what: str) -> Response:
        """As `_get`, but follows redirects, as the handle specification allows; no secret is sent.

        Each redirect must lead to an https URL that the guard permits.
        """
        ends_at = anyio.current_time() + _HTTP_SECONDS
        for _ in range(1 + _REDIRECTS):
            response = await self._get(url, what, deadline=ends_at - anyio.current_time())
            target = response.headers.get("location")
            if response.status not in _REDIRECTIONS or target is None:
                return response
            try:
                url = urljoin(url, target)
            except ValueError:
                raise IdentityError(f"{what} redirects to no URL", final=False) from None
            if not url.lower().startswith("https://"):
                raise IdentityError(f"{what} redirects away from https", final=False)
        raise IdentityError(f"{what} redirects again and again", final=False)

    async def _get(self, url: str, what: str, *, deadline: float = _HTTP_SECONDS) -> Response:
        try:
            return await self._http.request("GET", url, deadline=deadline)
        except (NotSent, Unclear) as error:
            raise IdentityError(f"{what} can't be asked: {error}", final=False) from None


def parse_handle(text: str) -> str:
    """The canonical spelling of a handle: lower case, without ``@``.

    Raises:
        IdentityError: not a handle (final).
    """
    handle = normal_handle(text.strip())
    if len(handle) > _MAX_HANDLE or not _HANDLE.fullmatch(handle):
        raise IdentityError(
            f"not a handle: {text[:80]!a}; expected a whole one, as in NAME.bsky.social, or a DID", final=True
        )
    domain = handle.rpartition(".")[2]
    if domain in _LOCAL_DOMAINS:
        raise IdentityError(f"{handle} is nobody's handle: names in .{domain} are reserved", final=True)
    return handle


def _claimed_handle(document: dict[str, Any]) -> str | None:
    """The first handle among `alsoKnownAs`, if it is one."""
    names = document.get("alsoKnownAs")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and name.startswith("at://"):
            try:
                return parse_handle(name.removeprefix("at://"))
            except IdentityError:
                return None
    return None


def _did(text: str, handle: str) -> str:
    try:
        return parse_did(text)
    except DidError:
        raise IdentityError(f"{handle} names something that is not a DID", final=True) from None
