"""Nothing that can hold a secret shows it: of every class of the package, and of every object of a refresh."""

import dataclasses
import gc
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator

import httpx
import pytest

import idiolectd
from idiolectd.ports import Arrived
from tests.oauth.support import house

# What is called so, and can hold text, holds a secret or what somebody sent.
_TELLING = re.compile(
    r"(?<!token_)(?<!session_)(token|jwt|jwk|secret|password|nonce|verifier|assertion|proof|body|record|statements?"
    r"|headers|form|query|refused|last_good|withheld|userinfo)$|^(key|raw|content|stored)$"
)
_TEXT = re.compile(r"\b(str|bytes|Value|Statement|Any|object)\b")

# Reviewed: they can hold no secret. A token's hash may be shown.
_HARMLESS = {
    ("AttemptResult", "token"),
    ("Reconciled", "token"),
    ("RememberedSession", "token"),
    # The name of another program's form.
    ("Found", "form"),
    ("ImportLine", "form"),
    ("Unusable", "form"),
}


def dataclasses_of_ours() -> Iterator[type]:
    for module in pkgutil.walk_packages(idiolectd.__path__, "idiolectd."):
        if not module.name.endswith("__main__"):
            found = importlib.import_module(module.name)
            for value in vars(found).values():
                if not isinstance(value, type) or value.__module__ != found.__name__:
                    continue
                if dataclasses.is_dataclass(value):
                    yield value


def test_no_field_that_can_hold_a_secret_is_shown() -> None:
    """By name and type; and what is bytes is somebody's whole record, answer or key."""
    shown = [
        f"{kind.__module__}.{kind.__name__}.{field.name}"
        for kind in dataclasses_of_ours()
        for field in dataclasses.fields(kind)
        if field.repr and kind.__dict__.get("__repr__") and (kind.__name__, field.name) not in _HARMLESS
        if "bytes" in str(field.type) or (_TELLING.search(field.name) and _TEXT.search(str(field.type)))
    ]
    assert shown == []


class Looking(httpx.AsyncBaseTransport):
    """Looks at every object of ours that lives while a request is under way."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.secrets: set[str] = set()
        self.looked = 0
        self.found: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.inner.handle_async_request(request)
        await answer.aread()
        self.look()
        return answer

    def look(self) -> None:
        for thing in gc.get_objects():
            if str(type(thing).__module__).startswith("idiolectd"):
                self.looked += 1
                shown = repr(thing)
                self.found += [type(thing).__name__ for secret in self.secrets if secret in shown]


@pytest.mark.anyio
async def test_no_object_of_a_refresh_shows_a_token() -> None:
    """While the request is under way, and when the new tokens are there."""
    looking: list[Looking] = []

    def wrapped(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        looking.append(Looking(inner))
        return looking[0]

    async with house(wrap=wrapped) as b:
        session = b.session()
        (watcher,) = looking
        watcher.secrets = {
            session.access_jwt,
            session.refresh_jwt,
            json.loads(session.dpop_private_key_jwk or "")["d"],
        }
        answer = await b.refresh(session)
        assert isinstance(answer, Arrived)
        renewed = session.with_tokens(answer.tokens)
        watcher.secrets |= {renewed.access_jwt, renewed.refresh_jwt}
        await b.refresher.probe(renewed)
        watcher.look()
    assert watcher.looked > 100
    assert watcher.found == []
