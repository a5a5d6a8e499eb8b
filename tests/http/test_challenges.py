"""`WWW-Authenticate` in every legal spelling, and in illegal ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.http import Challenge, parse_challenges

DPOP = Challenge("dpop", {"error": "invalid_token"})


@pytest.mark.parametrize(
    ("text", "challenges"),
    [
        ('DPoP error="invalid_token"', [DPOP]),
        ("DPoP error=invalid_token", [DPOP]),
        ('dpop ERROR\t=  "invalid_token"  ', [DPOP]),
        (r'DPoP error="invalid\_token"', [DPOP]),
        ('Basic, DPoP error="invalid_token"', [Challenge("basic"), DPOP]),
        ('Negotiate YWJj==, DPoP error="invalid_token"', [Challenge("negotiate"), DPOP]),
        (
            'Bearer realm="a, DPoP error=\\"b", error="c" ,DPoP error="invalid_token"',
            [Challenge("bearer", {"realm": 'a, DPoP error="b', "error": "c"}), DPOP],
        ),
        (',, DPoP , error="invalid_token",', [DPOP]),
        ('DPoP error="invalid_token", error="other"', [DPOP]),
        ('error="invalid_token"', []),
        ('DPoP error="invalid_token', [Challenge("dpop")]),
        ("", []),
    ],
)
def test_every_legal_spelling_is_read(text: str, challenges: list[Challenge]) -> None:
    """RFC 9110, section 11.6.1; what is none is passed over."""
    assert parse_challenges(text) == challenges


TOKENS = st.text("!#$%&'*+.^_`|~09AZaz-", min_size=1, max_size=9)
QUOTED = st.text('\t !#[]~"\\az,=', max_size=9)


@given(st.lists(st.tuples(TOKENS, st.dictionaries(TOKENS.map(str.lower), QUOTED, min_size=1)), max_size=4))
def test_what_is_written_is_read(challenges: list[tuple[str, dict[str, str]]]) -> None:
    """Any names and quoted values come back."""

    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"")

    text = ", ".join(
        f"{scheme} " + ", ".join(f'{name}="{quoted(value)}"' for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse_challenges(text) == [
        Challenge(scheme.lower(), parameters) for scheme, parameters in challenges
    ]


@given(st.text('DPoP=",\\ \tax', max_size=200))
def test_any_text_is_read(text: str) -> None:
    """Nothing raises."""
    parse_challenges(text)
