"""`WWW-Authenticate`, in every spelling that RFC 9110, section 11.6.1, allows.

Several challenges in one field or in several, parameters as tokens or quoted strings with escapes, names
in any case, white space around ``=``. Linear in the length of the text; never raises.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# More than that no server means; the rest is not read.
_MOST_READ = 8192

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_NAME})[ \t]*=[ \t]*(?:({_NAME})(?=[ \t]*(?:,|$))|"((?:[^"\\]|\\.)*)")')
# A scheme, alone or before its parameters or its token68.
_SCHEME = re.compile(rf"({_NAME})(?=[ \t]*(?:,|$)|[ \t]+\S)")
_SKIPPED = re.compile(r"[ \t,]+")
_UNKNOWN = re.compile(r"[^ \t,]+")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Challenge:
    """One challenge.

    Attributes:
        scheme: in lower case.
        parameters: by name in lower case; of a name that stands twice the first.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(text: str) -> list[Challenge]:
    """The challenges of a field, or of several joined by commas; what is none is passed over."""
    found: list[Challenge] = []
    for scheme, name, value in _pieces(text[:_MOST_READ]):
        if scheme is not None:
            found.append(Challenge(scheme))
        elif found:
            found[-1].parameters.setdefault(name, value)
    return found


def _pieces(text: str) -> Iterator[tuple[str | None, str, str]]:
    """A scheme, or a parameter's name and value, one after the other."""
    at = 0
    while at < len(text):
        if skipped := _SKIPPED.match(text, at):
            at = skipped.end()
        elif parameter := _PARAMETER.match(text, at):
            name, token, quoted = parameter.groups()
            yield None, name.lower(), token if token is not None else _ESCAPED.sub(r"\1", quoted)
            at = parameter.end()
        elif scheme := _SCHEME.match(text, at):
            yield scheme[1].lower(), "", ""
            at = scheme.end()
        else:
            unknown = _UNKNOWN.match(text, at)
            at = unknown.end() if unknown else len(text)
