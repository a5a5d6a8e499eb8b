"""The kinds of configuration values: one checker per kind, each with the text for "expected …".

A checker takes a TOML value and returns the typed value, or raises `InvalidValue`; the loader adds the key
and the file to the message. Nothing here reads the disk or the network.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.ASCII)


class InvalidValue(Exception):
    """A value is not allowed by its kind.

    Attributes:
        problems: pairs of the place inside the value (empty: the value itself) and what is wrong there.
    """

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(*problems)
        self.problems = problems


@dataclass(frozen=True)
class ValueKind:
    """A kind of value.

    Attributes:
        allowed: the text after "expected".
        check: returns the typed value or raises `InvalidValue`.
        text: an environment variable's text is the value; otherwise it is read as TOML.
    """

    allowed: str
    check: Callable[[object], Any]
    text: bool = False


def made(allowed: str, accept: Callable[[object], Any], *, text: bool = False) -> ValueKind:
    """Makes a kind from `accept`, which raises ValueError or TypeError for a value that is not allowed."""

    def check(value: object) -> Any:
        try:
            return accept(value)
        except (ValueError, TypeError, OverflowError):
            raise InvalidValue(("", f"found {shown(value)}; expected {allowed}")) from None

    return ValueKind(allowed, check, text)


def shown(value: object) -> str:
    """Formats a value for an error message: short, on one line, without a key or a password in a URL."""
    if isinstance(value, str) and "-----BEGIN" in value:
        return "the text of a key"
    text = ascii(value) if isinstance(value, str) else repr(value)
    text = re.sub(r"//[^/@\s]*@", "//***@", text)
    return text if len(text) <= 80 else text[:77] + "..."


def string(value: object) -> str:
    """Returns a value that is text and not blank; other kinds build on it.

    Raises:
        ValueError: the value is anything else.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def text(allowed: str) -> ValueKind:
    """Any text that is not empty."""
    return made(allowed, string, text=True)


def absolute_path() -> ValueKind:
    """An absolute path; ``~/`` stands for the user's home folder."""

    def accept(value: object) -> str:
        path = string(value)
        if not path.startswith(("/", "~/")):
            raise ValueError
        return path

    return made("an absolute path", accept, text=True)


def optional(kind: ValueKind) -> ValueKind:
    """The kind, or None: written as the empty string, because TOML has no null."""

    def check(value: object) -> Any:
        return None if value == "" else kind.check(value)

    return ValueKind(f'{kind.allowed}, or "" for none', check, kind.text)


def choice(*words: str) -> ValueKind:
    """One of a few words."""

    def accept(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return made("one of " + ", ".join(f'"{word}"' for word in words), accept, text=True)


def boolean() -> ValueKind:
    """True or false."""

    def accept(value: object) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return made("true or false", accept)


def integer(lowest: int, highest: int) -> ValueKind:
    """A whole number within bounds."""

    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError
        return value

    return made(f"a whole number from {lowest} to {highest}", accept)


def rate(highest: float) -> ValueKind:
    """A number of events per second, above 0."""

    def accept(value: object) -> float:
        number = _number(value)
        if not 0 < number <= highest:
            raise ValueError
        return number

    return made(f"a number above 0, at most {highest:g}", accept)


def duration(lowest: float, highest: float) -> ValueKind:
    """A duration: seconds as a number, or text with a unit."""

    def accept(value: object) -> float:
        if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            seconds = float(match[1]) * _UNITS[match[2]]
        else:
            seconds = _number(value)
        if not lowest <= seconds <= highest:
            raise ValueError
        return seconds

    bounds = f"from {_duration_text(lowest)} to {_duration_text(highest)}"
    return made(f'seconds, or text like "90s", "15m", "12h", "14d", {bounds}', accept)


def window() -> ValueKind:
    """Two shares of a lifetime, between 0 and 1."""

    def accept(value: object) -> tuple[float, float]:
        if not isinstance(value, list):
            raise TypeError
        first, last = (_number(share) for share in value)
        if not 0 < first <= last < 1:
            raise ValueError
        return first, last

    return made("two numbers [a, b] with 0 < a <= b < 1", accept)


def networks() -> ValueKind:
    """A list of CIDR blocks."""

    def accept(value: object) -> tuple[Network, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(ipaddress.ip_network(string(block)) for block in value)

    return made('a list of networks like ["10.1.2.0/24", "fd00::/8"] (no host bits set)', accept)


def table_of(keys: ValueKind, each: ValueKind) -> ValueKind:
    """A table whose keys are of one kind, and its values of another."""
    allowed = f"a table; each key: {keys.allowed}; each value: {each.allowed}"

    def check(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidValue(("", f"found {shown(value)}; expected {allowed}"))
        result: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name, item in value.items():
            try:
                result[keys.check(name)] = each.check(item)
            except InvalidValue as refused:
                problems += [(f'."{name}"{where}', what) for where, what in refused.problems]
        if problems:
            raise InvalidValue(*problems)
        return result

    return ValueKind(allowed, check)


def table_list(
    allowed: str, fields: dict[str, ValueKind], make: Callable[[dict[str, Any]], Any]
) -> ValueKind:
    """A list of tables with fixed keys, each turned into an object by `make`.

    `make` gets the checked values of the keys that are present, and raises `InvalidValue` if they contradict
    each other or one is missing.
    """

    def one(item: object, where: str) -> Any:
        if not isinstance(item, dict):
            raise InvalidValue((where, f"found {shown(item)}; expected a table with {_names(fields)}"))
        problems: list[tuple[str, str]] = []
        values: dict[str, Any] = {}
        for name, value in item.items():
            if name not in fields:
                problems.append((f"{where}.{name}", f"unknown; expected {_names(fields)}"))
                continue
            try:
                values[name] = fields[name].check(value)
            except InvalidValue as refused:
                problems += [(f"{where}.{name}{inner}", what) for inner, what in refused.problems]
        if problems:
            raise InvalidValue(*problems)
        try:
            return make(values)
        except InvalidValue as refused:
            raise InvalidValue(*((where + inner, what) for inner, what in refused.problems)) from None

    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidValue(("", f"found {shown(value)}; expected {allowed}"))
        result: list[Any] = []
        problems: list[tuple[str, str]] = []
        for index, item in enumerate(value):
            try:
                result.append(one(item, f"[{index}]"))
            except InvalidValue as refused:
                problems += refused.problems
        if problems:
            raise InvalidValue(*problems)
        return tuple(result)

    return ValueKind(allowed, check)


def _duration_text(seconds: float) -> str:
    for unit, factor in reversed(_UNITS.items()):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
