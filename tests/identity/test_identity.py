"""Handle, DID and PDS, both directions."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import httpx
import pytest
from anyio.abc import SocketStream

from idiolectd.errors import IdentityError
from idiolectd.identity import INVALID_HANDLE, DnsTxt, Identity, parse_handle
from tests.clock import VirtualClock
from tests.http.support import house, listening
from tests.simulator import Simulator, SimulatorTransport

PLC = "https://plc.test"
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
OTHER = "did:plc:z72i7hdynmk6r22z27h6tvur"
WELL_KNOWN = "https://alice.test/.well-known/atproto-did"


def document(did: str = DID, **change: Any) -> dict[str, Any]:
    service = {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.test",
    }
    return {"id": did, "alsoKnownAs": ["at://alice.test"], "service": [service]} | change


class Txt:
    """A DNS with fixed records; None: it is down."""

    def __init__(self, records: list[str] | None = None) -> None:
        self.records = records
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if self.records is None:
            raise IdentityError("down", final=False)
        return self.records


Pages = Mapping[str, httpx.Response | Exception]


@asynccontextmanager
async def identity(
    pages: Pages, txt: Txt | None = None, resolver: str | None = None
) -> AsyncIterator[Identity]:
    def handler(request: httpx.Request) -> httpx.Response:
        page = pages.get(str(request.url), httpx.Response(404))
        if isinstance(page, Exception):
            raise page
        return page

    async with house(httpx.MockTransport(handler)) as w:
        yield Identity(w.client, PLC + "/", resolver, txt=txt or Txt([]))


def page(value: object, status: int = 200) -> httpx.Response:
    if isinstance(value, str):
        return httpx.Response(status, text=value)
    return httpx.Response(status, content=json.dumps(value).encode())


@pytest.mark.parametrize(
    "text", ["alice.test", "@Alice.Test", " alice.test ", "a-b.c-d.co", "xn--p1ai.xn--p1ai", "8.bsky.social"]
)
def test_handles(text: str) -> None:
    """One spelling for each."""
    assert parse_handle(text) == text.strip().removeprefix("@").lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "alice.",
        ".alice.test",
        "-a.test",
        "a-.test",
        "a..test",
        "a.1",
        "a_b.test",
        "al/ice.test",
        "alice.test\n.x",
        "älice.test",
        "a.local",
        "a.localhost",
        "a.onion",
        "a.example",
        "127.0.0.1",
        "a" * 64 + ".test",
        "a." * 130 + "test",
        "alice.test:8080",
        "alice.test/x",
        "x@alice.test",
    ],
)
def test_what_is_no_handle(text: str) -> None:
    """A handle becomes a host name: nothing else may come through."""
    with pytest.raises(IdentityError) as caught:
        parse_handle(text)
    assert caught.value.final


@pytest.mark.anyio
async def test_the_dns_is_asked_first_and_its_word_counts() -> None:
    """The domain's owner speaks there; the host may be somebody else's."""
    txt = Txt(["v=spf1", f"did={DID}"])
    async with identity({WELL_KNOWN: page(OTHER)}, txt) as i:
        assert await i.resolve_handle("Alice.test") == DID
    assert txt.asked == ["_atproto.alice.test"]


@pytest.mark.anyio
@pytest.mark.parametrize("txt", [Txt([]), Txt(["v=spf1"]), Txt(None)])
async def test_the_host_is_asked_if_the_dns_has_nothing(txt: Txt) -> None:
    """Either way is enough."""
    async with identity({WELL_KNOWN: page(DID + "\n")}, txt) as i:
        assert await i.resolve_handle("alice.test") == DID


FAILING: list[tuple[Txt, httpx.Response | Exception, bool]] = [
    (Txt([]), page("", 404), True),
    (Txt(None), page("", 404), False),
    (Txt([]), page("<html>hello"), True),
    (Txt([]), page("did:nonsense"), True),
    (Txt([]), page("", 503), False),
    (Txt([]), httpx.Response(302, headers={"Location": "https://www.test"}), True),
    (Txt([]), httpx.ConnectError("x"), False),
    (Txt([f"did={DID}", f"did={OTHER}"]), page(DID), True),
    (Txt(["did=nonsense"]), page(DID), True),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("txt", "answer", "final"), FAILING)
async def test_no_and_nobody_to_ask_are_told_apart(
    txt: Txt, answer: httpx.Response | Exception, final: bool
) -> None:
    """Only an answer is a no."""
    async with identity({WELL_KNOWN: answer}, txt) as i:
        with pytest.raises(IdentityError) as caught:
            await i.resolve_handle("alice.test")
    assert caught.value.final is final


@pytest.mark.anyio
async def test_a_configured_resolver_is_asked_alone() -> None:
    """Neither the DNS nor the handle's host hears of it."""
    url = "https://resolver.test/xrpc/com.atproto.identity.resolveHandle?handle=alice.test"
    txt = Txt([f"did={OTHER}"])
    async with identity({url: page({"did": DID})}, txt, "https://resolver.test/") as i:
        assert await i.resolve_handle("alice.test") == DID
    assert txt.asked == []
    answers: list[tuple[httpx.Response | Exception, bool]] = [
        (page({"error": "InvalidRequest"}, 400), True),
        (page({"did": "x"}), True),
        (page({}), False),
        (page("<html>"), False),
        (page("", 502), False),
        (httpx.ReadTimeout("x"), False),
    ]
    for answer, final in answers:
        async with identity({url: answer}, txt, "https://resolver.test") as i:
            with pytest.raises(IdentityError) as caught:
                await i.resolve_handle("alice.test")
        assert caught.value.final is final


DOCUMENTS: list[tuple[dict[str, Any], str | None, str | None]] = [
    (document(), "alice.test", "https://pds.test"),
    (
        document(alsoKnownAs=["https://x.test", "at://ALICE.test", "at://b.test"]),
        "alice.test",
        "https://pds.test",
    ),
    (document(alsoKnownAs=["at://not a handle"]), None, "https://pds.test"),
    (document(alsoKnownAs=7), None, "https://pds.test"),
    (document(alsoKnownAs=[7]), None, "https://pds.test"),
    (document(service=[]), "alice.test", None),
    (document(service={"a": 1}), "alice.test", None),
    (document(service=["x"]), "alice.test", None),
]
for _url, _expected in [
    ("https://pds.test/", "https://pds.test"),
    ("https://PDS.test:443", "https://pds.test"),
    ("https://pds.test:8443", "https://pds.test:8443"),
    ("http://pds.test", None),
    ("https://10.0.0.1", None),
    ("https://a:b@pds.test", None),
    (7, None),
]:
    for _id in ("#atproto_pds", DID + "#atproto_pds"):
        _service = {"id": _id, "type": "AtprotoPersonalDataServer", "serviceEndpoint": _url}
        DOCUMENTS.append((document(service=[{"id": "#x"}, _service]), "alice.test", _expected))


@pytest.mark.anyio
@pytest.mark.parametrize(("doc", "handle", "pds_url"), DOCUMENTS)
async def test_a_document_is_read(doc: dict[str, Any], handle: str | None, pds_url: str | None) -> None:
    """What is odd in it is left out, and no PDS is taken that no request may go to."""
    async with identity({f"{PLC}/{DID}": page(doc)}) as i:
        found = await i.resolve_did(DID)
    assert (found.did, found.handle, found.pds_url) == (DID, handle, pds_url)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("did", "url"),
    [
        (DID, f"{PLC}/{DID}"),
        ("did:web:web.test", "https://web.test/.well-known/did.json"),
        ("did:web:localhost%3A3000", "http://localhost:3000/.well-known/did.json"),
        ("did:web:localhost", "http://localhost/.well-known/did.json"),
    ],
)
async def test_where_documents_are(did: str, url: str) -> None:
    """The directory, or the host itself."""
    async with identity({url: page(document(did))}) as i:
        assert (await i.resolve_did(did)).pds_url == "https://pds.test"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("did", "answer", "final"),
    [
        (DID, page("", 404), True),
        (DID, page({"message": "gone"}, 410), True),
        (DID, page(document(OTHER)), True),
        (DID, page("<html>"), False),
        (DID, page("", 500), False),
        (DID, httpx.ReadTimeout("x"), False),
        ("did:key:zabc", page(document("did:key:zabc")), True),
        ("did:web:web.test%3A8443", page(""), True),
        ("did:web:web.test:path", page(""), True),
        ("did:web:127.0.0.1", page(""), True),
        ("did:web:localhost%3Ax", page(""), True),
        ("did:web:localhost%3A1%2F..", page(""), True),
        ("no did", page(""), True),
    ],
)
async def test_documents_that_are_none(did: str, answer: httpx.Response | Exception, final: bool) -> None:
    """Only an answer is a no."""
    async with identity({f"{PLC}/{did}": answer}) as i:
        with pytest.raises(IdentityError) as caught:
            await i.resolve_did(did)
    assert caught.value.final is final


REDIRECTS: dict[str, tuple[dict[str, str], str | None]] = {
    "elsewhere": ({WELL_KNOWN: "https://www.test/did"}, "https://www.test/did"),
    "relative": ({WELL_KNOWN: "/did"}, "https://alice.test/did"),
    "five": (
        {WELL_KNOWN: "https://r.test/1"} | {f"https://r.test/{n}": f"{n + 1}" for n in range(1, 5)},
        "https://r.test/5",
    ),
    "six": (
        {WELL_KNOWN: "https://r.test/1"} | {f"https://r.test/{n}": f"{n + 1}" for n in range(1, 6)},
        None,
    ),
    "a circle": ({WELL_KNOWN: WELL_KNOWN}, None),
    "plain http": ({WELL_KNOWN: "http://www.test/did"}, None),
    "plain http to loopback": ({WELL_KNOWN: "http://127.0.0.1/did"}, None),
    "a private address": ({WELL_KNOWN: "https://10.0.0.1/did"}, None),
    "a user": ({WELL_KNOWN: "https://x@www.test/did"}, None),
    "no URL": ({WELL_KNOWN: "https://[x"}, None),
    "nowhere": ({WELL_KNOWN: ""}, None),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", REDIRECTS)
async def test_redirects_of_a_handles_host(name: str) -> None:
    """Some are followed, over TLS and within the guard's rules; the rest is no answer."""
    hops, end = REDIRECTS[name]
    pages = {url: httpx.Response(302, headers={"Location": to}) for url, to in hops.items()}
    if end is not None:
        pages[end] = page(DID)
    async with identity({**pages, "http://127.0.0.1/did": page(DID), "http://www.test/did": page(DID)}) as i:
        if end is not None:
            assert await i.resolve_handle("alice.test") == DID
            return
        with pytest.raises(IdentityError) as caught:
            await i.resolve_handle("alice.test")
    assert not caught.value.final


@pytest.mark.anyio
async def test_an_account_by_its_handle() -> None:
    """Both directions agree."""
    async with identity({f"{PLC}/{DID}": page(document())}, Txt([f"did={DID}"])) as i:
        account = await i.resolve_account("@Alice.test")
    assert (account.did, account.handle, account.pds_url) == (DID, "alice.test", "https://pds.test")


@pytest.mark.anyio
@pytest.mark.parametrize("names", [["at://bob.test"], [], ["at://bob.test", "at://alice.test"]])
async def test_a_handle_that_its_did_does_not_name_is_no_account(names: list[str]) -> None:
    """Anybody can point a domain at somebody else's DID."""
    async with identity({f"{PLC}/{DID}": page(document(alsoKnownAs=names))}, Txt([f"did={DID}"])) as i:
        with pytest.raises(IdentityError) as caught:
            await i.resolve_account("alice.test")
    assert caught.value.final


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("txt", "handle"),
    [
        (Txt([f"did={DID}"]), "alice.test"),
        (Txt([f"did={OTHER}"]), INVALID_HANDLE),
        (Txt(None), INVALID_HANDLE),
    ],
)
async def test_an_account_by_its_did(txt: Txt, handle: str) -> None:
    """The DID is enough; the handle is shown only if it leads back."""
    async with identity({f"{PLC}/{DID}": page(document())}, txt) as i:
        account = await i.resolve_account(DID)
    assert (account.did, account.handle) == (DID, handle)


@pytest.mark.anyio
async def test_an_account_without_a_pds_is_none() -> None:
    """There is nobody to talk to."""
    async with identity({f"{PLC}/{DID}": page(document(service=[]))}) as i:
        with pytest.raises(IdentityError, match="PDS"):
            await i.resolve_account(DID)


@pytest.mark.anyio
async def test_the_simulators_accounts_resolve() -> None:
    """A strict server's own documents are understood."""
    sim = Simulator("https://pds.test", now=VirtualClock().now)
    account = sim.add_account("alice.test")
    async with house(SimulatorTransport(sim)) as w:
        found = await Identity(w.client, sim.pds_url, sim.pds_url).resolve_account("alice.test")
        assert (found.did, found.handle, found.pds_url) == (account.did, "alice.test", sim.pds_url)
        sim.delete_account(account.did)
        with pytest.raises(IdentityError) as caught:
            await Identity(w.client, sim.pds_url).resolve_did(account.did)
        assert caught.value.final


# DNS, for real: a server on loopback, over TCP because that needs no more than a stream ---------


@asynccontextmanager
async def name_server(records: list[str] | None, rcode: dns.rcode.Rcode) -> AsyncIterator[DnsTxt]:
    async def handler(stream: SocketStream) -> None:
        data = b""
        while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
            data += await stream.receive()
        query = dns.message.from_wire(data[2:])
        response = dns.message.make_response(query)
        response.set_rcode(rcode)
        if records:
            name = query.question[0].name
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *records))
        wire = response.to_wire()
        await stream.send(struct.pack("!H", len(wire)) + wire)

    class OverTcp(dns.asyncresolver.Resolver):
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            return await super().resolve(*args, **kwargs | {"tcp": True})

    async with listening(handler) as url:
        resolver = OverTcp(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = int(url.rpartition(":")[2])
        yield DnsTxt(resolver)


@pytest.mark.anyio
async def test_txt_records_are_joined() -> None:
    """One record may come in several strings."""
    async with name_server([f'"did={DID[:9]}" "{DID[9:]}"', '"other"'], dns.rcode.NOERROR) as txt:
        assert sorted(await txt("_atproto.alice.test")) == [f"did={DID}", "other"]


@pytest.mark.anyio
@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
async def test_a_name_without_records_has_none(rcode: dns.rcode.Rcode) -> None:
    """That is an answer."""
    async with name_server(None, rcode) as txt:
        assert await txt("_atproto.alice.test") == []


@pytest.mark.anyio
async def test_a_dns_in_trouble_is_no_answer() -> None:
    """SERVFAIL says nothing of the name."""
    async with name_server(None, dns.rcode.SERVFAIL) as txt:
        with pytest.raises(IdentityError) as caught:
            await txt("_atproto.alice.test")
    assert not caught.value.final
