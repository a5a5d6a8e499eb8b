"""The last line of defence masks credentials and leaves sentences alone."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.log import log_sink, redact, redacted_traceback
from idiolectd.log.redact import SHAPES

JWT = "eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJkaWQ6cGxjOmEifQ.c2lnbmF0dXJl_-"


@pytest.mark.parametrize(
    "text",
    [
        JWT,
        f"refused {JWT}, sorry",
        JWT[: JWT.rindex(".")],
        JWT[:30],
        "Authorization: Bearer c2lnbmF0dXJl",
        "Authorization: DPoP c2lnbmF0dXJl",
        "('authorization', 'c2lnbmF0dXJl')",
        '{"Authorization": "DPoP c2lnbmF0dXJl"}',
        "sent Bearer c2lnbmF0dXJl1",
        "sent dpop c2lnbmF0dXJlc2lnbmF0dXJl",
        '{"kty": "EC", "d": "c2lnbmF0dXJl"}',
        '{"key": "{\\"kty\\":\\"EC\\",\\"d\\":\\"c2lnbmF0dXJl\\"}"}',
        '{"refreshJwt":"c2lnbmF0dXJl"}',
        "{'access_token': 'c2lnbmF0dXJl', 'x': 1}",
        '{"access_token" : "c2lnbmF0dXJl"}',
        "grant_type=refresh_token&refresh_token=c2lnbmF0dXJl&client_id=x",
        "https://user:c2lnbmF0dXJl@proxy.example/",
        "sealed:1:key:salt:c2lnbmF0dXJl",
        "ref-" + "c2" * 32,
        "-----BEGIN EC PRIVATE KEY-----\nc2lnbmF0dXJl\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nc2lnbmF0dXJl",
        "password c2ln-bmf0-dxjl-c2ln",
    ],
)
def test_masked(text: str) -> None:
    """Nothing is left of a credential, whole or cut off."""
    masked = redact(text)
    assert "[redacted]" in masked
    assert "c2ln" not in masked
    assert "eyJ" not in masked


@pytest.mark.parametrize(
    "text",
    [
        "DPoP proof does not match the expected JKT",
        "the session is a Bearer session; DPoP sessions have a key",
        "invalid_grant: Refresh token replayed",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "https://pds.example/xrpc/com.atproto.server.getSession?x=1",
        "3f0b1c2d-aaaa-bbbb-cccc-0123456789ab",
        "dpop_thumbprint 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        "2026-11-21T20:52:08.809Z",
    ],
)
def test_left_alone(text: str) -> None:
    """What a person has to read stays readable."""
    assert redact(text) == text


_PIECES = st.sampled_from(
    [
        *(
            JWT[:30],
            "eyJ",
            "-----BEGIN ",
            "PRIVATE KEY-----",
            "sealed:",
            "authorization",
            "Authorization: ",
            "Bearer ",
            "DPOP ",
        ),
        *(
            "access_token",
            "refreshJwt",
            "password",
            "d",
            '"',
            "'",
            '\\"',
            ":",
            " : ",
            "=",
            "&",
            "://",
            "@",
            "ref-",
            "TOK-",
        ),
        *(
            "c2" * 20,
            "c2ln-bmf0-dxjl-c2ln",
            "1",
            " ",
            "\n",
            "\0",
            "\N{KELVIN SIGN}",
            "\N{LATIN SMALL LETTER LONG S}",
            "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
        ),
    ]
)


@given(st.lists(_PIECES, max_size=8).map("".join))
def test_no_pattern_is_left_out(text: str) -> None:
    """Looking for the signs of a credential first changes nothing."""
    masked = text
    for shape in SHAPES:
        masked = shape.pattern.sub(shape.replacement, masked)
    assert redact(text) == masked


@given(st.lists(st.lists(_PIECES, max_size=4).map("".join), min_size=1, max_size=4))
def test_a_line_is_masked_as_each_of_its_texts(texts: list[str]) -> None:
    """Looking at all texts of a line at once changes nothing."""
    stream = io.StringIO()
    log_sink("json", "info", stream).write("info", "e", {f"f{i}": text for i, text in enumerate(texts)})
    line = json.loads(stream.getvalue())
    assert [line[f"f{i}"] for i in range(len(texts))] == [redact(text) for text in texts]


class Holder(Exception):
    """An exception whose text holds a token."""


def fail(token: str) -> None:
    local_secret = "s3cret" + token
    known: dict[str, str] = {}
    try:
        known[local_secret[:6]]
    except KeyError as error:
        raise Holder(f"with {token}") from error


def caught(token: str) -> BaseException:
    try:
        fail(token)
    except Holder as error:
        return error
    raise AssertionError


def test_traceback_names_places() -> None:
    """A traceback has file, line and function of every frame, and the chain of causes."""
    text = redacted_traceback(caught("x"))
    lines = text.splitlines()
    assert lines[0] == "tests.log.test_redact.Holder: with x"
    assert lines[1].startswith(f"  {__file__}:")
    assert lines[1].endswith(":caught")
    assert lines[2].endswith(":fail")
    assert lines[3] == "caused by: KeyError: 's3cret'"
    assert "raise Holder" not in text


def test_traceback_has_no_values() -> None:
    """Neither tokens in messages nor local variables appear."""
    text = redacted_traceback(caught(JWT))
    assert "eyJ" not in text
    assert "Holder: with [redacted]" in text


def test_traceback_of_a_group() -> None:
    """The members of a group are told, each with its frames."""
    group = BaseExceptionGroup("two things", [caught("x"), ValueError("third")])
    text = redacted_traceback(group)
    assert "member: tests.log.test_redact.Holder: with x" in text
    assert "member: ValueError: third" in text


def test_traceback_is_bounded() -> None:
    """Endless recursion, endless chains and endless messages make one line that can be logged."""

    def deep(number: int) -> None:
        deep(number + 1)

    with pytest.raises(RecursionError) as raised:
        deep(0)
    assert len(redacted_traceback(raised.value).splitlines()) < 60
    chain = ValueError("x" * 100_000)
    for _ in range(100):
        following = ValueError("y" * 10_000)
        following.__cause__ = chain
        chain = following
    assert len(redacted_traceback(chain)) < 9000
    group = ExceptionGroup("many", [ValueError("z" * 400) for _ in range(1000)])
    assert "more" in redacted_traceback(group)


def test_traceback_of_the_unprintable() -> None:
    """An exception that fails while it is printed is reported all the same."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Broken: (no message)" in redacted_traceback(Broken())
