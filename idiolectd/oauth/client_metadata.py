"""Builds a confidential client's metadata document, and checks the one that is hosted at its client_id.

Servers fetch the document from the client_id at every login and at refreshes
(https://atproto.com/specs/oauth#clients). A wrong field or a missing key there ends sessions that worked
before.

The check compares only what this host needs: a hosted document may allow more scopes, redirects and keys than
are used here, and may have other fields. It changes nothing. Servers cache the document, so they may see a
correction only minutes later.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from idiolectd.http import HttpClient, Response, safe_text
from idiolectd.oauth.client_auth import OAuthClient
from idiolectd.oauth.keys import SigningKey
from idiolectd.url import Url

# The one algorithm that all ATProto servers accept for client assertions.
_ALG = "ES256"

# What servers assume where a field is missing (RFC 7591, section 2).
_DEFAULTS: Mapping[str, object] = {
    "application_type": "web",
    "grant_types": ["authorization_code"],
    "response_types": ["code"],
}


@dataclass(frozen=True)
class ClientMetadata:
    """A confidential client as this host uses it.

    Attributes:
        client: its client_id and keys.
        redirect_uri: the redirect URI of logins; None: this host makes no logins with it.
        scope: the scope that logins ask for.
        name: the name on the consent page; None: none is configured.
    """

    client: OAuthClient
    redirect_uri: str | None
    scope: str
    name: str | None

    def document(self) -> dict[str, Any]:
        """What to host at the client_id, as ``application/json``."""
        return {
            "client_id": self.client.client_id,
            "application_type": "web",
            **({} if self.name is None else {"client_name": self.name}),
            "redirect_uris": [] if self.redirect_uri is None else [self.redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": self.scope,
            "dpop_bound_access_tokens": True,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": _ALG,
            "jwks": {"keys": [_published(kid, key) for kid, key in self.client.signing_keys.items()]},
        }


@dataclass(frozen=True)
class MetadataFinding:
    """One part of the hosted document, compared with what is needed.

    Attributes:
        part: the name of the field or key.
        problem: what is wrong and what follows from it; None: nothing is wrong.
        passing: whether the problem may pass by itself.
    """

    part: str
    problem: str | None
    passing: bool = False


async def check_hosted_metadata(http: HttpClient, expected: ClientMetadata) -> list[MetadataFinding]:
    """Fetches the document at the client_id and compares it with what is needed.

    Raises:
        TransportError: its host does not answer.
    """
    client_id = expected.client.client_id
    unfit = _unfit_name(client_id)
    if unfit is not None:
        return [MetadataFinding("client_id", unfit)]
    hosted = await _fetched(http, client_id, "document")
    if isinstance(hosted, MetadataFinding):
        return [hosted]
    findings = [MetadataFinding("document", None), *_fields(expected.document(), hosted)]
    keys = await _hosted_keys(http, hosted)
    if isinstance(keys, MetadataFinding):
        return [*findings, keys]
    return [*findings, *(_key(kid, key, keys) for kid, key in expected.client.signing_keys.items())]


def _published(kid: str, key: SigningKey) -> dict[str, str]:
    return {**key.public_jwk, "kid": kid, "use": "sig", "alg": key.alg}


# Fields ------------------------------------------------------------------------------------------

# What follows from a wrong value.
_CONSEQUENCES: Mapping[str, str] = {
    "client_id": "servers refuse a document that is not about the address it lies at",
    "application_type": "servers take keys from web clients only",
    "client_name": "the consent page shows another name",
    "redirect_uris": "no login can come back",
    "grant_types": "servers refuse the grants that it lacks",
    "response_types": "no login can begin",
    "scope": "servers refuse a login that asks for more",
    "dpop_bound_access_tokens": "servers refuse the client",
    "token_endpoint_auth_method": "the client's keys are not findings at",
    "token_endpoint_auth_signing_alg": "assertions are refused",
}


def _fields(expected: Mapping[str, Any], hosted: Mapping[str, Any]) -> Iterator[MetadataFinding]:
    for name, consequence in _CONSEQUENCES.items():
        if name not in expected:
            continue
        problem = _difference(expected[name], hosted.get(name, _DEFAULTS.get(name)), words=name == "scope")
        yield MetadataFinding(name, None if problem is None else f"{problem}: {consequence}")


def _difference(expected: object, found: object, *, words: bool) -> str | None:
    """How a hosted value falls short of what is needed; None: it does not."""
    if words and isinstance(expected, str) and isinstance(found, str):
        expected, found = expected.split(), found.split()
    if isinstance(expected, list):
        if not isinstance(found, list):
            return _missing(expected) if found is None else f"is {_shown(found)}"
        lacking = [value for value in expected if value not in found]
        return _missing(lacking) if lacking else None
    # `is` for the booleans: 1 == True, and servers compare more strictly.
    fits = found is expected if isinstance(expected, bool) else found == expected
    return None if fits else f"is {_shown(found)}, not {_shown(expected)}"


def _missing(values: list[Any]) -> str:
    return "lacks " + ", ".join(_shown(value) for value in values)


def _shown(value: object) -> str:
    match value:
        case None:
            return "missing"
        case bool():
            return str(value).lower()
        case str():
            return safe_text(value) or "empty"
        case _:
            return safe_text(repr(value))


def _unfit_name(client_id: str) -> str | None:
    """Why servers would refuse to fetch a client's document from this URL; None: they would not."""
    url = Url.parse(client_id)
    if url.address is not None:
        return "servers want the name of a host in it, not an address"
    if not url.path.strip("/") or url.path.endswith("/"):
        return "servers want a path in it that does not end in a slash, as in /client-metadata.json"
    return None


# Keys --------------------------------------------------------------------------------------------


async def _hosted_keys(
    http: HttpClient, hosted: Mapping[str, Any]
) -> list[Mapping[str, Any]] | MetadataFinding:
    jwks, jwks_uri = hosted.get("jwks"), hosted.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        return MetadataFinding("jwks", "is there beside jwks_uri: servers refuse a document with both")
    if isinstance(jwks_uri, str):
        if not http.permits(jwks_uri):
            return MetadataFinding("jwks_uri", "is not an https URL: servers do not fetch it")
        fetched = await _fetched(http, jwks_uri, "jwks_uri")
        if isinstance(fetched, MetadataFinding):
            return fetched
        jwks = fetched
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list):
        return MetadataFinding(
            "jwks", "is missing, or not a JWKS: assertions are refused, and no session can refresh"
        )
    if any(isinstance(key, dict) and "d" in key for key in keys):
        return MetadataFinding(
            "jwks", "holds the private half of a key: anybody can act as this client; make another key"
        )
    return [key for key in keys if isinstance(key, dict)]


def _key(kid: str, key: SigningKey, hosted: list[Mapping[str, Any]]) -> MetadataFinding:
    """Checks that the hosted document lets servers verify what one of our keys signs."""
    part = f"key {kid}"
    if key.alg != _ALG:
        return MetadataFinding(part, f"is for {key.alg}: servers take {_ALG}; make a key on the curve P-256")
    same_kid = [jwk for jwk in hosted if jwk.get("kid") == kid]
    if not same_kid:
        return MetadataFinding(part, "is not published: sessions that were started with it can't refresh")
    ours = [jwk for jwk in same_kid if all(jwk.get(name) == v for name, v in key.public_jwk.items())]
    if not ours:
        return MetadataFinding(part, "is published with another key's value: what ours signs is refused")
    if any(jwk.get("alg", _ALG) == _ALG and jwk.get("use", "sig") == "sig" for jwk in ours):
        return MetadataFinding(part, None)
    return MetadataFinding(part, f"is published for another use: alg must be {_ALG}, and use sig")


# Fetching ----------------------------------------------------------------------------------------


async def _fetched(http: HttpClient, url: str, part: str) -> dict[str, Any] | MetadataFinding:
    """Fetches a JSON object as ATProto servers do: status 200, no redirect, type ``application/json``."""
    response = await http.request("GET", url)
    if response.status != 200:
        where = "; servers follow no redirect" if 300 <= response.status < 400 else ""
        return MetadataFinding(
            part, f"{url} answers {response.status}, not 200{where}", passing=response.may_pass
        )
    media_type = _media_type(response)
    if media_type != "application/json":
        found = safe_text(media_type) or "no type"
        return MetadataFinding(part, f"{url} is served as {found}, not application/json: servers refuse it")
    document = response.json_object()
    return MetadataFinding(part, f"{url} holds no JSON object") if document is None else document


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
