"""Uses a session record against a real server: writes, reads, refreshes, revokes, hangs up.

Every function takes a record as `login` makes it and returns the server's answer as it
came: no error is raised for a status, and the record is never changed. `refreshed` makes
the record that a good answer leads to.

What this module does not do: retry anything but a request for a nonce, or decide anything.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from tests.jose import decode
from tests.real_pds.proofs import ConfidentialClient, dpop_proof

Record = dict[str, str]
"""A session record: the JSON object that is stored, all of its values strings."""

Form = Callable[[], Mapping[str, str]]


@contextlib.contextmanager
def loopback() -> Iterator[httpx.Client]:
    """An HTTP client that no proxy setting of the machine can lead elsewhere.

    Plain HTTP only: it trusts no certificate, which spares the 50 ms of reading them all.
    """
    with httpx.Client(trust_env=False, timeout=30, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as http:
        yield http


def discover(pds_url: str) -> dict[str, Any]:
    """The metadata of the authorization server that the PDS names."""
    with loopback() as http:
        resource = http.get(f"{pds_url}/.well-known/oauth-protected-resource").raise_for_status().json()
        issuer = resource["authorization_servers"][0]
        answer = http.get(f"{issuer}/.well-known/oauth-authorization-server").raise_for_status()
    metadata: dict[str, Any] = answer.json()
    if metadata["issuer"] != issuer:
        raise ValueError(f"{issuer} says it is {metadata['issuer']}")
    return metadata


def wants_nonce(answer: httpx.Response) -> bool:
    """Whether the answer only asks for a proof with the nonce it came with."""
    if answer.status_code not in (400, 401) or "dpop-nonce" not in answer.headers:
        return False
    return "use_dpop_nonce" in answer.text or "use_dpop_nonce" in answer.headers.get("www-authenticate", "")


def post_form(
    url: str, form: Form, key: str, *, nonce: str | None = None, retry: bool = True
) -> httpx.Response:
    """POST to the authorization server with a proof; `form` is called for each attempt."""
    with loopback() as http:
        answer = http.post(url, data=form(), headers={"DPoP": dpop_proof(key, "POST", url, nonce=nonce)})
        if retry and wants_nonce(answer):
            nonce = answer.headers["dpop-nonce"]
            answer = http.post(url, data=form(), headers={"DPoP": dpop_proof(key, "POST", url, nonce=nonce)})
    return answer


def call(record: Mapping[str, str], http_method: str, nsid: str, **options: Any) -> httpx.Response:
    """Call an XRPC method at the PDS with the record's access token."""
    url = f"{record['pdsUrl']}/xrpc/{nsid}"
    token = record["accessJwt"]

    def headers(nonce: str | None) -> dict[str, str]:
        if record["tokenType"] == "Bearer":
            return {"Authorization": f"Bearer {token}"}
        proof = dpop_proof(record["dpopPrivateKeyJwk"], http_method, url, nonce=nonce, access_token=token)
        return {"Authorization": f"DPoP {token}", "DPoP": proof}

    with loopback() as http:
        answer = http.request(http_method, url, headers=headers(record.get("dpopNonce")), **options)
        if wants_nonce(answer):
            again = headers(answer.headers["dpop-nonce"])
            answer = http.request(http_method, url, headers=again, **options)
    return answer


def create_record(record: Mapping[str, str], text: str) -> httpx.Response:
    """Write a post: what an application does with the tokens."""
    post = {"$type": "app.bsky.feed.post", "text": text, "createdAt": stamp(datetime.now(UTC))}
    body = {"repo": record["did"], "collection": "app.bsky.feed.post", "record": post}
    return call(record, "POST", "com.atproto.repo.createRecord", json=body)


def get_session(record: Mapping[str, str]) -> httpx.Response:
    """Ask the PDS whose access token this is."""
    return call(record, "GET", "com.atproto.server.getSession")


def refresh_raw(
    record: Mapping[str, str],
    *,
    client: ConfidentialClient | None = None,
    key: str | None = None,
    retry: bool = True,
    change: Mapping[str, str | None] | None = None,
) -> httpx.Response:
    """Refresh the session once, rightly or, with the options, wrongly.

    Args:
        record: the session.
        client: the confidential client that authenticates; None: a public one.
        key: another key (a private JWK's JSON) for the proof than the record's.
        retry: whether to answer a request for a nonce.
        change: form fields to set, or with None to leave out.
    """
    if record["tokenType"] == "Bearer":
        return _bearer_refresh_token(record, "refreshSession")
    metadata = discover(record["pdsUrl"])
    return post_form(
        metadata["token_endpoint"],
        lambda: _refresh_form(record, client, change or {}),
        key or record["dpopPrivateKeyJwk"],
        nonce=record.get("dpopNonce"),
        retry=retry,
    )


def revoke(
    record: Mapping[str, str], *, client: ConfidentialClient | None = None, key: str | None = None
) -> httpx.Response:
    """End the session at the server: RFC 7009, or deleteSession for a legacy one."""
    if record["tokenType"] == "Bearer":
        return _bearer_refresh_token(record, "deleteSession")
    metadata = discover(record["pdsUrl"])

    def form() -> dict[str, str]:
        fields = {"client_id": record["clientId"], "token": record["refreshJwt"]}
        return fields | (client.auth_fields(record["issuer"]) if client else {})

    return post_form(
        metadata["revocation_endpoint"],
        form,
        key or record["dpopPrivateKeyJwk"],
        nonce=record.get("dpopNonce"),
    )


def refresh_and_hang_up(record: Mapping[str, str], *, client: ConfidentialClient | None = None) -> None:
    """Send a right refresh request and close the connection without reading the answer."""
    if record["tokenType"] == "Bearer":
        url = f"{record['pdsUrl']}/xrpc/com.atproto.server.refreshSession"
        body = b""
        headers = {"Authorization": f"Bearer {record['refreshJwt']}"}
    else:
        url = discover(record["pdsUrl"])["token_endpoint"]
        # A nonce that is surely in force, so that this one request is the one that takes effect.
        probe = post_form(url, dict, record["dpopPrivateKeyJwk"], retry=False)
        proof = dpop_proof(record["dpopPrivateKeyJwk"], "POST", url, nonce=probe.headers["dpop-nonce"])
        body = urlencode(_refresh_form(record, client, {})).encode()
        headers = {"DPoP": proof, "Content-Type": "application/x-www-form-urlencoded"}
    place = urlsplit(url)
    head = {"Host": place.netloc, "Content-Length": str(len(body)), **headers}
    lines = [f"POST {place.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    with socket.create_connection(("127.0.0.1", place.port or 80), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)


def refreshed(record: Mapping[str, str], answer: httpx.Response) -> Record:
    """The record after a good refresh: new tokens and times, the rest as before."""
    body = answer.raise_for_status().json()
    legacy = record["tokenType"] == "Bearer"
    access = body["accessJwt" if legacy else "access_token"]
    now = datetime.now(UTC)
    ends = jwt_expiry(access) if legacy else now + timedelta(seconds=body["expires_in"])
    new = {
        "accessJwt": access,
        "refreshJwt": body["refreshJwt" if legacy else "refresh_token"],
        "issuedAt": stamp(now),
        "expiresAt": stamp(ends),
    }
    if "dpop-nonce" in answer.headers:
        new["dpopNonce"] = answer.headers["dpop-nonce"]
    return {**record, **new}


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the records hold it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def jwt_expiry(token: str) -> datetime:
    return datetime.fromtimestamp(decode(token)[1]["exp"], UTC)


def _refresh_form(
    record: Mapping[str, str], client: ConfidentialClient | None, change: Mapping[str, str | None]
) -> dict[str, str]:
    fields: dict[str, str | None] = {
        "grant_type": "refresh_token",
        "client_id": record["clientId"],
        "refresh_token": record["refreshJwt"],
        **(client.auth_fields(record["issuer"]) if client else {}),
        **change,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _bearer_refresh_token(record: Mapping[str, str], method: str) -> httpx.Response:
    url = f"{record['pdsUrl']}/xrpc/com.atproto.server.{method}"
    with loopback() as http:
        return http.post(url, headers={"Authorization": f"Bearer {record['refreshJwt']}"})
