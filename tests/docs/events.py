"""docs/events.md: every event of the log with its fields and an example line, read from `idiolectd.events`."""

import inspect
import io
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import fields

from idiolectd import events
from idiolectd.events import Event, SessionEvent
from idiolectd.log import log_sink

INTRODUCTION = """\
# Events

The daemon writes a line for each event to standard error: JSON for programs (`log.format = "json"`, the default
where standard error is no terminal), `console` for people. Each line has `time` (RFC 3339, UTC), `level` and
`event`, then the fields below in their order; a field that is not known is left out. Names and fields are an
interface: alerts can be written against them, new ones may be added. No line holds a secret.

Every line about a session names it whole: `did`, `handle`, `kind`, `pds_url`, `issuer`. So
`journalctl -u idiolectd | grep alice.example` is its story: what the daemon did, and, as `session.command`, what
people did with `idiolectd login`, `refresh`, `pause`, `resume` and `logout`.

What to alert on: `level` `error`. Each such line says what to do in `action` and `advice`, or names what to look at;
[the runbook](runbook.md) explains causes and codes.

This document is written by `make documents` from the code, and compared by a test.
"""

MEANINGS = {
    "did": "whose session",
    "handle": "what the account is called",
    "kind": "`dpop`: OAuth; `bearer`: an app password",
    "pds_url": "the account's PDS",
    "issuer": "the authorization server",
    "attempt": "the number of the attempt since the last success",
    "code": "a short name of the reason, as in the runbook",
    "error": "the reason, for people",
    "traceback": "where in the code, without values",
    "next_attempt_at": "when the session is worked on next",
    "expires_at": "when the access token ends",
    "action": "the command to type",
    "advice": "what to do or to know before",
    "session_deadline": "when the session ends, however often it is refreshed",
    "at_latest": "nobody knows when the session began: it ends by then, and may end before",
    "left": "seconds until then",
    "status": "the server's word: `deactivated`, `takendown`, ...",
    "moved_to": "the PDS that the account has moved to",
    "place": "the file, or the database and its row",
    "until": "when requests are sent there again",
    "waiting": "how many sessions wait for it",
    "lasting": "seconds so far",
    "lasted": "seconds",
    "seconds": "by how much",
    "origin": "the server",
    "version": "which idiolectd",
    "pid": "the process ID",
    "store": "the store's URL",
    "config": "the configuration file",
    "sessions": "how many there are",
    "caught_up": "whether all changes since the last run have been looked at",
    "changed": "the keys whose new values hold now",
    "ignored": "the keys whose new values hold after a restart",
    "reason": "the signal, or what else",
    "in_flight": "how many refreshes are finished first",
    "exit_code": "of the process",
    "found": "how many",
    "needed": "refreshes a second that its sessions need",
    "allowed": "refreshes a second that are allowed",
    "rate": "refreshes a second that may be sent now",
    "issuers": "how many of each issuer",
}

_DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
_EXAMPLES: dict[str, object] = {
    "did": _DID,
    "handle": "alice.example.com",
    "kind": "dpop",
    "pds_url": "https://pds.example.com",
    "issuer": "https://pds.example.com",
    "attempt": 1,
    "code": "connect_timeout",
    "error": "pds.example.com did not answer in time",
    "traceback": "engine.py:210 in _send",
    "next_attempt_at": "2026-11-28T19:44:12Z",
    "due": "2026-11-28T18:51:40Z",
    "lateness": 0.013,
    "duration": 0.412,
    "expires_at": "2026-11-28T19:51:40Z",
    "action": f"idiolectd login {_DID}",
    "advice": "stop the other program that refreshes this session: it would end the next one too",
    "session_deadline": "2026-12-01T09:00:00Z",
    "left": 223_700.0,
    "status": "deactivated",
    "moved_to": "https://new.example.com",
    "place": "/var/lib/idiolectd/sessions.sqlite, row did:plc:ewvi7nxzyoun6zhxrhs64oiz",
    "spilled": "/var/lib/idiolectd/.sessions.sqlite.spill/did_plc_ewvi7nxzyoun6zhxrhs64oiz.json",
    "until": "2026-11-28T18:52:40Z",
    "waiting": 12,
    "lasting": 61.2,
    "lasted": 93.5,
    "seconds": 7.5,
    "origin": "https://pds.example.com",
    "version": "1.0.0",
    "pid": 812,
    "store": "sqlite:///var/lib/idiolectd/sessions.sqlite",
    "config": "/etc/idiolectd/config.toml",
    "changed": ["refresh.rate"],
    "ignored": [],
    "reason": "SIGTERM",
    "exit_code": 0,
    "limited_by": "ratelimit_headers",
    "command": "pause",
    "result": "done",
    "user": "alice (sudo)",
    "at": "2026-11-28T18:51:36Z",
    "latest": 0.021,
    "slowest": 1.4,
    "issuers": {"https://pds.example.com": 17},
}
_BY_TYPE: dict[object, object] = {int: 3, float: 1.5, bool: True, str: "...", types.NoneType: None}


def document() -> str:
    """The whole document."""
    parts = [INTRODUCTION, "| Event | Level | |", "|---|---|---|"]
    parts += [f"| [`{kind.name}`](#{anchor(kind)}) | {kind.level} | {summary(kind)} |" for kind in kinds()]
    for kind in kinds():
        parts += ["", f"## {kind.name}", "", f"Level {kind.level}. {text_of(kind)}", ""]
        if issubclass(kind, SessionEvent):
            parts += ["The session: `did`, `handle`, `kind`, `pds_url`, `issuer`.", ""]
        rows = [f"| `{name}` | {type_name} | {meaning} |" for name, type_name, meaning in described(kind)]
        parts += ["| Field | Type | What it is |", "|---|---|---|", *rows] if rows else []
        parts += ["", "```json", example(kind), "```"]
    return "\n".join(parts) + "\n"


def kinds() -> list[type[Event]]:
    """All events that are written, in the order of the module."""
    found = [kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, Event)]
    return [kind for kind in found if "name" in vars(kind)]


def anchor(kind: type[Event]) -> str:
    """The anchor of an event's heading."""
    return kind.name.replace(".", "")


def summary(kind: type[Event]) -> str:
    """The first sentence of an event's docstring."""
    return re.split(r"(?<=[.])\s", text_of(kind))[0].rstrip(".")


def text_of(kind: type[Event]) -> str:
    """An event's docstring in one line, without its attributes."""
    text = inspect.cleandoc(kind.__doc__ or "").split("\nAttributes:")[0]
    return " ".join(text.split()).replace("``", "`")


def described(kind: type[Event]) -> Iterator[tuple[str, str, str]]:
    """Each field's name, type and meaning: the docstring's, else the usual one; not those that name a session."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if "Attributes:" in (base.__doc__ or "") and base is not SessionEvent:
            section = inspect.cleandoc(base.__doc__ or "").split("Attributes:")[1]
            for name, meaning in re.findall(r"^    (\w+): ((?:.|\n     )+)", section, re.MULTILINE):
                told[name] = " ".join(meaning.split()).rstrip(".").replace("``", "`")
    hints = typing.get_type_hints(kind)
    named = {field.name for field in fields(SessionEvent)} if issubclass(kind, SessionEvent) else set()
    for field in fields(kind):
        if field.name in named:
            continue
        yield field.name, type_name(hints[field.name]), told.get(field.name) or MEANINGS[field.name]


def type_name(hint: object) -> str:
    """A type as it is in JSON."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        known = [type_name(part) for part in typing.get_args(hint) if part is not types.NoneType]
        return f"{' or '.join(known)}, or left out"
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "text"
    simple = {
        str: "text",
        int: "number",
        float: "number",
        bool: "true or false",
        list: "list",
        dict: "object",
    }
    return simple[origin or hint]  # type: ignore[index]


def example(kind: type[Event]) -> str:
    """The line of one event, as the log writes it."""
    hints = typing.get_type_hints(kind)
    values = {field.name: _value(field.name, hints[field.name]) for field in fields(kind)}
    written = io.StringIO()
    log_sink("json", "debug", written)(kind(**values))
    line = json.loads(written.getvalue())
    line["time"] = "2026-11-28T18:51:40.113Z"
    return json.dumps(line, ensure_ascii=False)


def _value(name: str, hint: object) -> object:
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if typing.get_args(hint):
        hint = typing.get_args(hint)[0]
    return _BY_TYPE.get(hint, hint)
