"""The document of a confidential client, and what is found wrong with a hosted one."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from idiolectd.errors import NotSent
from idiolectd.oauth import ClientMetadata, MetadataFinding, OAuthClient, SigningKey, check_hosted_metadata
from tests.http.support import house
from tests.jose import new_jwk

pytestmark = pytest.mark.anyio

CLIENT_ID = "https://app.test/client-metadata.json"
KEYS_URL = "https://app.test/jwks.json"
KEYS = {"new": SigningKey.generate(), "old": SigningKey.generate()}

Document = dict[str, Any]
Answer = tuple[int, str, bytes]


def metadata(
    keys: Mapping[str, SigningKey] = KEYS,
    redirect_uri: str | None = "https://app.test/back",
    name: str | None = "Our bots",
    client_id: str = CLIENT_ID,
) -> ClientMetadata:
    return ClientMetadata(OAuthClient(client_id, keys), redirect_uri, "atproto transition:generic", name)


def as_json(value: object, content_type: str = "application/json") -> Answer:
    return 200, content_type, json.dumps(value).encode()


class Hosting(httpx.AsyncBaseTransport):
    """A web server in memory with a few files."""

    def __init__(self, files: Mapping[str, Answer]) -> None:
        self.files = files

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if str(request.url) not in self.files:
            raise httpx.ConnectError("nobody there")
        status, content_type, body = self.files[str(request.url)]
        return httpx.Response(status, headers={"content-type": content_type}, stream=httpx.ByteStream(body))


async def look(
    files: Mapping[str, Answer], expected: ClientMetadata | None = None
) -> tuple[dict[str, str], list[MetadataFinding]]:
    """The problems that are found, by part, and everything that was looked at."""
    async with house(Hosting(files)) as found:
        looked = await check_hosted_metadata(found.client, expected or metadata())
    return {one.part: one.problem for one in looked if one.problem is not None}, looked


def test_the_document() -> None:
    """It says what ATProto asks of a confidential client, and holds the public half of every key."""
    assert metadata().document() == {
        "client_id": CLIENT_ID,
        "application_type": "web",
        "client_name": "Our bots",
        "redirect_uris": ["https://app.test/back"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "atproto transition:generic",
        "dpop_bound_access_tokens": True,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "ES256",
        "jwks": {
            "keys": [
                {**key.public_jwk, "kid": kid, "use": "sig", "alg": "ES256"} for kid, key in KEYS.items()
            ]
        },
    }
    assert "client_name" not in metadata(name=None).document()
    assert '"d"' not in json.dumps(metadata().document())


async def test_what_we_print_fits() -> None:
    """The printed document, once hosted, has nothing wrong; every field and key was looked at."""
    problems, looked = await look(
        {CLIENT_ID: as_json(metadata().document(), "Application/JSON; charset=utf-8")}
    )
    assert problems == {}
    assert {one.part for one in looked} == {"document", "key new", "key old"} | (
        metadata().document().keys() - {"jwks"}
    )


async def test_more_than_we_need_fits() -> None:
    """A document may allow more than this host uses, say the same by default, and keep its keys apart."""
    hosted = metadata().document()
    keys = hosted.pop("jwks")
    del hosted["application_type"], hosted["response_types"]
    hosted["redirect_uris"].append("https://app.test/other")
    hosted["scope"] += " transition:email"
    hosted |= {"jwks_uri": KEYS_URL, "logo_uri": "https://app.test/logo.png"}
    keys["keys"] += ["garbage", {"kty": "RSA", "kid": "another"}]
    problems, _ = await look({CLIENT_ID: as_json(hosted), KEYS_URL: as_json(keys)})
    assert problems == {}


async def test_a_client_without_logins_and_name_asks_for_neither() -> None:
    """Where nobody logs in with a client, its redirects are its own affair."""
    hosted = metadata().document() | {"redirect_uris": ["https://elsewhere.test/"], "client_name": "Theirs"}
    problems, _ = await look({CLIENT_ID: as_json(hosted)}, metadata(redirect_uri=None, name=None))
    assert problems == {}


Change = Callable[[Document], object]


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        (lambda d: d.update(client_id="https://app.test/other.json"), "client_id", "other.json, not https"),
        (lambda d: d.pop("client_id"), "client_id", "is missing"),
        (lambda d: d.update(application_type="native"), "application_type", "is native, not web"),
        (lambda d: d.update(client_name="Theirs"), "client_name", "is Theirs, not Our bots"),
        (lambda d: d.update(redirect_uris=["https://app.test/"]), "redirect_uris", "lacks https://app.test/back"),
        (lambda d: d.pop("redirect_uris"), "redirect_uris", "lacks https://app.test/back"),
        (lambda d: d.pop("grant_types"), "grant_types", "lacks refresh_token"),
        (lambda d: d.update(grant_types="refresh_token"), "grant_types", "is refresh_token"),
        (lambda d: d.update(response_types=["token"]), "response_types", "lacks code"),
        (lambda d: d.update(scope="atproto"), "scope", "lacks transition:generic"),
        (lambda d: d.update(scope=["atproto"]), "scope", "is ['atproto'], not"),
        (lambda d: d.update(dpop_bound_access_tokens=1), "dpop_bound_access_tokens", "is 1, not true"),
        (lambda d: d.pop("dpop_bound_access_tokens"), "dpop_bound_access_tokens", "is missing, not true"),
        (lambda d: d.update(token_endpoint_auth_method="none"), "token_endpoint_auth_method", "is none"),
        (
            lambda d: d.update(token_endpoint_auth_signing_alg="RS256"),
            "token_endpoint_auth_signing_alg",
            "is RS256, not ES256",
        ),
        (lambda d: d.pop("jwks"), "jwks", "no session can refresh"),
        (lambda d: d.update(jwks=[]), "jwks", "not a JWKS"),
        (lambda d: d.update(jwks_uri=KEYS_URL), "jwks", "beside jwks_uri"),
        (lambda d: (d.pop("jwks"), d.update(jwks_uri="ftp://app.test/")), "jwks_uri", "not an https URL"),
        (lambda d: d["jwks"]["keys"].pop(), "key old", "sessions that were started with it can't refresh"),
        (lambda d: d["jwks"]["keys"][0].update(x=KEYS["old"].public_jwk["x"]), "key new", "another key's"),
        (lambda d: d["jwks"]["keys"][0].update(d="secret-half"), "jwks", "the private half"),
        (lambda d: d["jwks"]["keys"][0].update(alg="ES256K"), "key new", "another use"),
        (lambda d: d["jwks"]["keys"][0].update(use="enc"), "key new", "another use"),
    ],
)  # fmt: skip
async def test_each_difference_is_named(change: Change, part: str, words: str) -> None:
    """Exactly the part that differs is named, with what was found there."""
    hosted = metadata().document()
    change(hosted)
    problems, _ = await look({CLIENT_ID: as_json(hosted)})
    assert problems.keys() == {part}
    assert words in problems[part]
    assert "secret-half" not in problems[part]


@pytest.mark.parametrize(
    ("answer", "words", "passing"),
    [
        ((404, "text/html", b""), "answers 404, not 200", False),
        ((201, "application/json", b"{}"), "answers 201", False),
        ((302, "text/html", b""), "servers follow no redirect", False),
        ((503, "text/html", b""), "answers 503", True),
        ((429, "text/html", b""), "answers 429", True),
        (as_json({}, "text/plain; charset=utf-8"), "served as text/plain, not application/json", False),
        (as_json({}, ""), "served as no type", False),
        ((200, "application/json", b"[]"), "holds no JSON object", False),
        ((200, "application/json", b"{"), "holds no JSON object", False),
    ],
)
async def test_a_document_that_servers_refuse(answer: Answer, words: str, passing: bool) -> None:
    """Status, type and shape of the document and of a separate JWKS are as servers want them."""
    problems, looked = await look({CLIENT_ID: answer})
    assert words in problems["document"]
    assert [one.passing for one in looked] == [passing]
    hosted = metadata().document() | {"jwks_uri": KEYS_URL}
    del hosted["jwks"]
    problems, looked = await look({CLIENT_ID: as_json(hosted), KEYS_URL: answer})
    assert words in problems["jwks_uri"]
    assert looked[-1].passing is passing


async def test_a_key_that_servers_can_not_use() -> None:
    """A key on the other curve is told, also where it is published."""
    expected = metadata({"k": SigningKey.parse(new_jwk("secp256k1"))})
    problems, _ = await look({CLIENT_ID: as_json(expected.document())}, expected)
    assert problems.keys() == {"key k"}
    assert "is for ES256K: servers take ES256" in problems["key k"]


@pytest.mark.parametrize(
    "client_id", ["https://app.test", "https://app.test/", "https://app.test/c/", "https://192.0.2.1/c.json"]
)
async def test_a_name_that_servers_refuse(client_id: str) -> None:
    """A client_id without a path, or with an address for a host, is told before anything is fetched."""
    problems, _ = await look({}, metadata(client_id=client_id))
    assert problems.keys() == {"client_id"}


async def test_nobody_there() -> None:
    """A host that can't be reached says nothing about the document."""
    with pytest.raises(NotSent):
        await look({})
