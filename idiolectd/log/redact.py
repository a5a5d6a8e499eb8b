"""The last line of defence: masks what looks like a credential, in text and in tracebacks.

No event should hold one. This is for the mistake that nobody has made yet, so it knows shapes and
not sources, and would rather mask too much.

Texts may be a server's words, so each shape is matched in time that grows with the text and no faster:
no shape scans ahead for an end that may be missing, from each place where it might begin.
"""

import re
from dataclasses import dataclass

_MASK = "[redacted]"

# A name inside a pattern is ASCII, in upper or lower case.
_ANY_CASE = re.ASCII | re.IGNORECASE


@dataclass(frozen=True)
class Shape:
    """What one kind of credential looks like.

    Attributes:
        signs: in every text with such a credential stands one of these, in lower case. Looking for them
            costs a fiftieth of trying the pattern, and hardly any text has one.
        pattern: finds it.
        replacement: what is shown instead, as of `re.sub`.
    """

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str = _MASK


SHAPES = (
    Shape(
        ("-----begin",),
        re.compile(r"-----BEGIN[^-]*PRIVATE KEY-----.*?(?:-----END[^-]*-----|\Z)", re.DOTALL),
    ),
    # A JWT, whole or cut off: a JSON object in base64url begins with eyJ.
    Shape(("eyj",), re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*", re.ASCII)),
    Shape(("sealed:",), re.compile(r"\bsealed:\S+")),
    # The header by name, whatever it holds.
    Shape(
        ("authorization",),
        re.compile(
            r"(\bauthorization[\"']?\s*[:=,]\s*(?:b?[\"'])?(?:(?:bearer|dpop|basic)\s+)?)[^\s\"']+", _ANY_CASE
        ),
        r"\1" + _MASK,
    ),
    # A scheme with something that is no word of a sentence ("DPoP proof does not match ...").
    Shape(
        ("bearer", "dpop"),
        re.compile(r"(\b(?:bearer|dpop)\s+)(?=[^\s\"']*\d|[^\s\"']{20})[\w.~+/=-]{4,}", _ANY_CASE),
        r"\1" + _MASK,
    ),
    # Members of JSON (also inside a JSON string) or of a printed dict; "d" is the private part of a JWK.
    Shape(
        ('"', "'"),
        re.compile(
            r"([\"'](?:access_?(?:token|jwt)|refresh_?(?:token|jwt)|client_assertion|password|d)\\?[\"']\s*:\s*\\?[\"'])"
            r"[^\"'\\]+",
            _ANY_CASE,
        ),
        r"\1" + _MASK,
    ),
    # Fields of a form or a query.
    Shape(
        ("=",),
        re.compile(
            r"(\b(?:access_token|refresh_token|client_assertion|password|code_verifier)=)[^&\s\"']+",
            _ANY_CASE,
        ),
        r"\1" + _MASK,
    ),
    Shape(("@",), re.compile(r"(://)[^/@\s\"']+@"), r"\1" + _MASK + "@"),
    # The reference server's opaque tokens and codes.
    Shape(("ref-", "tok-", "cod-", "req-"), re.compile(r"\b(?:ref|tok|cod|req)-[0-9a-f]{32,}")),
    # An app password, as PDSs make them.
    Shape(("-",), re.compile(r"(?<![\w-])[a-z0-9]{4}(?:-[a-z0-9]{4}){3}(?![\w-])")),
)

_MAX_TRACEBACK = 8000  # characters: enough for the frames of a chain, small enough for one log line
_MAX_MESSAGE = 500
_MOST_READ = 10 * _MAX_MESSAGE  # of a message, before what is masked in it shortens it
_MAX_CHAIN = 8
_MAX_FRAMES = 40


def redact(text: str) -> str:
    """The text with everything masked that looks like a token, a key or a password."""
    lowered = text.lower()
    for shape in SHAPES:
        for sign in shape.signs:
            if sign in lowered:
                text = shape.pattern.sub(shape.replacement, text)
                break
    return text


def redacted_traceback(exc: BaseException) -> str:
    """Where an exception came from: ``file:line:function`` and its message, masked.

    No source lines and no values of variables. Causes and the members of a group follow; the
    length is bounded.
    """
    lines: list[str] = []
    pending: list[tuple[str, BaseException]] = [("", exc)]
    for _ in range(_MAX_CHAIN):
        if not pending:
            break
        relation, current = pending.pop(0)
        lines.append(relation + _described(current))
        lines += _frames(current)
        if isinstance(current, BaseExceptionGroup):
            pending += [("member: ", member) for member in current.exceptions]
        if current.__cause__ is not None:
            pending.insert(0, ("caused by: ", current.__cause__))
        elif current.__context__ is not None and not current.__suppress_context__:
            pending.insert(0, ("while handling: ", current.__context__))
    if pending:
        lines.append(f"... and {len(pending)} more")
    text = "\n".join(lines)
    return text if len(text) <= _MAX_TRACEBACK else text[:_MAX_TRACEBACK] + "..."


def _described(exc: BaseException) -> str:
    try:
        message = str(exc)
    except Exception:  # noqa: BLE001 - an exception that can't be printed is still to be reported
        message = "(no message)"
    name = f"{type(exc).__module__}.{type(exc).__qualname__}".removeprefix("builtins.")
    message = redact(message[:_MOST_READ])
    return f"{name}: {message[:_MAX_MESSAGE]}" if message else name


def _frames(exc: BaseException) -> list[str]:
    frames: list[str] = []
    step = exc.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append(f"  {code.co_filename}:{step.tb_lineno}:{code.co_name}")
        step = step.tb_next
    if len(frames) > _MAX_FRAMES:  # an endless recursion: both ends tell more than the middle
        half = _MAX_FRAMES // 2
        frames = [*frames[:half], f"  ... {len(frames) - 2 * half} more ...", *frames[-half:]]
    return frames
