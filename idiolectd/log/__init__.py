"""Events as log lines on standard error, JSON or for people.

It decides nothing: which events there are, `idiolectd.events` says. Rules: writing never raises and
never waits long, because a dead or stuck reader must not keep the daemon from saving tokens; and
every text passes a last line of defence that masks what looks like a credential, although no event
should hold one.
"""

import contextlib
import logging
import math
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

from idiolectd.clock import rfc3339
from idiolectd.events import Event, Level
from idiolectd.foreign import json_text, printable
from idiolectd.log.line_writer import LineWriter, is_journal
from idiolectd.log.redact import redact, redacted_traceback
from idiolectd.log.summary import RefreshSummary

__all__ = [
    "Format",
    "LogSink",
    "RefreshSummary",
    "capture_logging",
    "log_sink",
    "redact",
    "redacted_traceback",
]

Format = Literal["json", "console"]

# Characters of one value of a line: a traceback has 8,000 at most. What is longer was not meant for a log.
_MOST_SHOWN = 10_000

_RANK: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class LogSink:
    """An `EventSink` that writes lines.

    Attributes:
        level: the lowest level that is written; may be changed while running.
    """

    def __init__(self, renderer: Any, level: Level, writer: LineWriter) -> None:
        self.level: Level = level
        self._logger = structlog.wrap_logger(
            writer, processors=[_masked, renderer], wrapper_class=structlog.BoundLogger
        ).bind()  # once: else each line makes a logger first

    def __call__(self, event: Event) -> None:
        """Writes one event, if its level is wanted. Never raises."""
        self.write(event.level, event.name, vars(event))

    def write(self, level: Level, event: str, values: Mapping[str, Any]) -> None:
        """Writes one line, if its level is wanted. Never raises. None is left out."""
        if _RANK[level] < _RANK[self.level]:
            return
        kept = {name: value for name, value in values.items() if value is not None}
        with contextlib.suppress(Exception):  # a line that can't be made is no reason to stop working
            getattr(self._logger, level)(event, time=rfc3339(time.time()), level=level, **kept)


def log_sink(format: Format, level: Level, stream: TextIO) -> LogSink:  # noqa: A002 - the key's name
    """Makes the sink.

    Args:
        format: ``json``: one object a line; ``console``: for people, coloured on a terminal.
        level: the lowest level that is written.
        stream: usually standard error.
    """
    writer = LineWriter(stream, prefixed=format == "json" and is_journal(stream))
    if format == "json":
        return LogSink(_json_line, level, writer)
    return LogSink(_console_renderer(stream), level, writer)


def capture_logging(sink: LogSink) -> None:
    """Sends what libraries log (and `warnings`) at WARNING and above into the sink.

    Process-wide, so only a program's entry point may call it.
    """
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_LibraryHandler(sink))
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a handler that fails must not write a traceback with values


class _LibraryHandler(logging.Handler):
    """A record of the standard library's logging as a line."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        with contextlib.suppress(Exception):  # the message's arguments may not fit its format
            failure = record.exc_info[1] if record.exc_info else None
            self._sink.write(
                level,
                "library.message",
                {
                    "logger": record.name,
                    "message": record.getMessage(),
                    "traceback": redacted_traceback(failure) if failure is not None else None,
                },
            )


def _masked(_logger: Any, _method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks every text, however deep.

    Nearly every line has nothing to mask, and to look at all of its texts at once costs a fifth.
    """
    texts = [value for value in values.values() if type(value) is str]
    at_once = "\0".join(texts)
    if len(at_once) <= _MOST_SHOWN and redact(at_once) == at_once:
        plain = (str, int, bool)
        return {name: value if type(value) in plain else _mask(value) for name, value in values.items()}
    return {name: _mask(value) for name, value in values.items()}


def _mask(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)  # JSON has no word for those
        case str():
            return _masked_text(value)
        case dict():
            return {_masked_text(str(name)): _mask(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_mask(item) for item in value]
        case _:
            return _masked_text(str(value))


def _masked_text(text: str) -> str:
    return redact(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")


def _json_line(_logger: Any, _method: str, values: MutableMapping[str, Any]) -> str:
    """A structlog renderer: time, level and event first, then the fields in the class's order."""
    first = {name: values.pop(name) for name in ("time", "level", "event")}
    return json_text({**first, **values})


def _console_renderer(stream: TextIO) -> Any:
    render = structlog.dev.ConsoleRenderer(
        timestamp_key="time",
        colors=_is_terminal(stream),
        sort_keys=False,
        pad_event_to=26,
        exception_formatter=structlog.dev.plain_traceback,
    )

    def console_lines(logger: Any, method: str, values: MutableMapping[str, Any]) -> str:
        trace = values.pop("traceback", None)
        shown = {
            name: printable(value if isinstance(value, str) else str(value)) for name, value in values.items()
        }
        if trace is not None:  # under this name structlog prints it below, line by line
            shown["exception"] = "\n".join(map(printable, str(trace).splitlines()))
        return render(logger, method, shown)

    return console_lines


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
