"""Reads JSON, numbers and text from outside into values that can be stored and shown safely.

Servers, other programs and people send values that Python reads but later fails on: lone surrogates, which
can't be written to a file or header; integers of a thousand digits, which are too large for a float; control
characters, which move a terminal's cursor. Each is replaced by a safe value here, or left out.
"""

import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Collection
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
# Replaces characters that can't be stored.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# No time or count has more digits. Python refuses integers of more than 4,300 digits, and with them the whole
# answer.
_MAX_DIGITS = 300

# This many characters of a secret in a row count as a quotation of it.
_TELLING = 12


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


# Reads JSON whose integers may be of any length.
JSON = json.JSONDecoder(parse_int=_integer)


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Reads a JSON object from outside; None if it is anything else.

    Bytes that are not UTF-8 and lone surrogates become U+FFFD, so that every text in the object can be stored
    and sent; an integer that is too large becomes infinite.
    """
    if isinstance(text, bytes):
        text = text.removeprefix(BOM_UTF8).decode("utf-8", "replace")
    try:
        value = JSON.decode(text)
        if "\\u" in text:
            value = storable_value(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def number(value: object, least: float = -math.inf, most: float = math.inf) -> float | None:
    """A finite number between two bounds, from a JSON number or decimal text; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and least <= found <= most else None


def storable(text: str) -> str:
    """The text without lone surrogates: UTF-8 can't hold them, so no file, header or terminal can."""
    return _SURROGATE.sub(REPLACEMENT, text)


def printable(text: str) -> str:
    """The text in one line, without what could move a terminal's cursor or turn its direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else REPLACEMENT for char in text)


def without(text: str, secrets: Collection[str], mask: str = "…") -> str:
    """The text with secrets masked, whole or quoted in part.

    Args:
        text: the text of a server or program that knows the secrets.
        secrets: of a long secret, every quotation of a dozen characters or more is masked; a short one is
            masked where all of it occurs.
        mask: the text in their place.
    """
    for secret in secrets:
        if secret and len(secret) < _TELLING:
            text = text.replace(secret, mask)
    telling = {
        secret[start : start + _TELLING] for secret in secrets for start in range(len(secret) - _TELLING + 1)
    }
    if not telling:
        return text
    kept, shown_to, start = [], 0, 0
    while start <= len(text) - _TELLING:
        if text[start : start + _TELLING] not in telling:
            start += 1
            continue
        kept += [text[shown_to:start], mask]
        shown_to = start + _TELLING
        while text[shown_to - _TELLING + 1 : shown_to + 1] in telling:
            shown_to += 1
        start = shown_to
    return "".join([*kept, text[shown_to:]])


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON in ASCII: the same bytes in every locale, and nothing in it moves a cursor."""
    text = json.dumps(value, ensure_ascii=True, indent=indent)
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON lets through


def storable_value(value: Any) -> Any:
    """A JSON value whose texts are all `storable`."""
    match value:
        case str():
            return storable(value)
        case list():
            return [storable_value(item) for item in value]
        case dict():
            return {storable(name): storable_value(item) for name, item in value.items()}
        case _:
            return value
