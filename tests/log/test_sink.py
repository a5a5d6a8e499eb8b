"""Events become lines."""

import io
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Literal

import pytest

from idiolectd import events
from idiolectd.clock import parse_rfc3339
from idiolectd.events import Event
from idiolectd.log import LogSink, capture_logging, log_sink

STARTED = events.DaemonStarted(version="1", pid=7, store="memory:", config=None)


def all_events(base: type[Event] = Event) -> Iterator[type[Event]]:
    for kind in base.__subclasses__():
        yield kind
        yield from all_events(kind)


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line() -> None:
    """A line is one JSON object: time, level, event, then the fields in the class's order."""
    stream = io.StringIO()
    before = time.time()
    log_sink("json", "info", stream)(STARTED)
    (line,) = lines_of(stream)
    assert list(line) == ["time", "level", "event", "version", "pid", "store"]
    assert line["level"] == "info"
    assert line["event"] == "daemon.started"
    assert line["pid"] == 7
    at = parse_rfc3339(str(line["time"]))
    assert at is not None
    assert before - 0.001 <= at <= time.time()


def test_none_is_left_out_and_false_is_not() -> None:
    """Only what is not known is missing from a line."""
    stream = io.StringIO()
    sink = log_sink("json", "info", stream)
    sink(events.DaemonReady(sessions=0, caught_up=True, needing_person=0))
    sink(events.SessionFound(did="did:plc:a", kind="dpop", issuer=None, next_attempt_at=None))
    first, second = lines_of(stream)
    assert first["sessions"] == 0
    assert "issuer" not in second


def test_no_field_hides_a_line_s_own() -> None:
    """No event has a field with the name of one that every line has."""
    for kind in all_events():
        assert not {"time", "level", "event"} & {field.name for field in fields(kind)}, kind


def test_level() -> None:
    """Events below the level are not written, and the level can change."""
    stream = io.StringIO()
    sink = log_sink("json", "warning", stream)
    sink(STARTED)
    sink(events.DaemonReloadFailed(error="x"))
    sink.level = "info"
    sink(STARTED)
    assert [line["event"] for line in lines_of(stream)] == ["daemon.reload_failed", "daemon.started"]


def test_secrets_are_masked() -> None:
    """A token is masked wherever it stands: in a text, in a list, in a library's message."""
    token = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"
    stream = io.StringIO()
    sink = log_sink("json", "info", stream)
    sink(events.DaemonReloadFailed(error=f"found {token}"))
    sink(events.DaemonReloaded(changed=[token], ignored=[]))
    sink.write("info", "x", {"deep": {"list": (token, {token})}, "object": ValueError(token)})
    assert "eyJ" not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 5


def test_line_breaks_stay_inside() -> None:
    """Text from a server can't begin a line of its own."""
    stream = io.StringIO()
    log_sink("json", "info", stream)(events.DaemonReloadFailed(error='a\nb\r\x1b[31m"}'))
    (line,) = lines_of(stream)
    assert line["error"] == 'a\nb\r\x1b[31m"}'
    assert "\x1b" not in stream.getvalue()


def test_console() -> None:
    """For people: readable, without colours off a terminal, a traceback line by line."""
    stream = io.StringIO()
    sink = log_sink("console", "info", stream)
    sink(STARTED)
    sink(events.DaemonFailed(error="boom", traceback="one\ntwo"))
    text = stream.getvalue()
    assert "daemon.started" in text
    assert "pid=7" in text
    assert "\x1b" not in text
    assert text.endswith("error=boom\none\ntwo\n")


class Unprintable:
    """A value whose text can't be made."""

    def __str__(self) -> str:
        raise RuntimeError


def test_never_raises() -> None:
    """A closed stream and a value that can't be printed cost a line and nothing else."""
    stream = io.StringIO()
    sink = log_sink("json", "info", stream)
    sink.write("info", "x", {"value": Unprintable()})
    sink(STARTED)
    assert len(lines_of(stream)) == 1
    stream.close()
    sink(STARTED)


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, io.TextIOWrapper]]:
    reading, writing = os.pipe()
    with io.FileIO(reading) as reader, os.fdopen(writing, "w", encoding="utf-8") as writer:
        yield reader, writer


def test_broken_pipe(pipe: tuple[io.FileIO, io.TextIOWrapper]) -> None:
    """A reader that is gone does not disturb the writer."""
    reader, writer = pipe
    sink = log_sink("json", "info", writer)
    reader.close()
    sink(STARTED)
    sink(STARTED)


def test_stuck_reader(pipe: tuple[io.FileIO, io.TextIOWrapper]) -> None:
    """A full pipe costs lines, not time; how many were lost is told when it is read again."""
    reader, writer = pipe
    sink = log_sink("json", "info", writer)
    for _ in range(5000):  # about 400 KiB; a pipe takes 64, and who waited for its reader would wait for ever
        sink(STARTED)
    kept = reader.read(1 << 20)
    assert kept is not None
    assert all(json.loads(line) for line in kept.splitlines())
    sink(STARTED)
    told, line = (reader.read(1 << 20) or b"").decode().splitlines()
    lost = int(told.split()[1])
    assert lost + len(kept.splitlines()) == 5000
    assert json.loads(line)["event"] == "daemon.started"


def test_no_value_fills_the_log() -> None:
    """What is too long for a line is cut, and the line stays one."""
    stream = io.StringIO()
    log_sink("json", "info", stream)(events.DaemonReloadFailed(error="x" * 100_000))
    (line,) = stream.getvalue().splitlines()
    assert len(line) < 11_000


def test_torn_line(pipe: tuple[io.FileIO, io.TextIOWrapper]) -> None:
    """A long line that gets stuck half-way spoils no other line."""
    reader, writer = pipe
    sink = log_sink("json", "info", writer)
    sink(events.DaemonReloaded(changed=["x" * 9_000] * 11, ignored=[]))  # a pipe takes 65,536
    kept = reader.read(1 << 20)
    assert kept is not None
    assert b"\n" not in kept
    sink(STARTED)
    torn, told, line = (reader.read(1 << 20) or b"").decode().split("\n")[:3]
    assert torn == ""
    assert "1 log lines were lost" in told
    assert json.loads(line)["event"] == "daemon.started"


def test_journal_prefix(pipe: tuple[io.FileIO, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the journal every line carries its priority, which the journal takes off again."""
    reader, writer = pipe
    found = os.fstat(writer.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    sink = log_sink("json", "info", writer)
    sink(STARTED)
    sink(events.DaemonReloadFailed(error="x"))
    first, second = (reader.read(1 << 20) or b"").decode().splitlines()
    assert first.startswith('<6>{"time"')
    assert second.startswith('<3>{"time"')
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:1")
    log_sink("json", "info", writer)(STARTED)
    assert (reader.read(1 << 20) or b"").startswith(b"{")


@pytest.fixture
def captured() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    capture_logging(log_sink("json", "debug", stream))
    yield stream
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = True
    root.handlers[:] = handlers
    root.setLevel(level)


def test_libraries(captured: io.StringIO) -> None:
    """Libraries' warnings and errors become lines, masked; what they chat does not."""
    logger = logging.getLogger("httpx")
    logger.info("HTTP Request: GET https://pds.example")
    logger.warning("refused %s", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln")
    try:
        int("Bearer abcdefgh1")
    except ValueError:
        logger.exception("failed")
    logger.error("%d", "not a number")
    first, second = lines_of(captured)
    assert first["level"] == "warning"
    assert first["logger"] == "httpx"
    assert first["message"] == "refused [redacted]"
    assert "ValueError: invalid literal for int() with base 10: 'Bearer [redacted]'" in str(
        second["traceback"]
    )


def test_python_warnings(captured: io.StringIO) -> None:
    """Python's own warnings go the same way."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    logging.captureWarnings(capture=False)
    assert "DeprecationWarning: old" in str(lines_of(captured)[0]["message"])


def test_sink_is_an_event_sink() -> None:
    """The sink is what other rooms report through."""
    sink: events.EventSink = log_sink("json", "info", io.StringIO())
    assert isinstance(sink, LogSink)


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_moves_a_cursor(form: Literal["json", "console"]) -> None:
    """Control characters and changes of direction from a server reach no terminal, in either form."""
    stream = io.StringIO()
    evil = "a\x1bc\x9b2J\u202eb\x7f\ud800\nc"
    sink = log_sink(form, "info", stream)
    sink(events.IssuerResumed(issuer=evil.replace("\n", "")))  # structlog quotes what has spaces in it
    sink(events.DaemonFailed(error=evil, traceback=f"one {evil}\ntwo"))
    sink(events.ClockSkewed(origin=evil, seconds=math.inf))
    assert stream.getvalue().replace("\n", "").isprintable()
    if form == "json":
        assert [line["event"] for line in lines_of(stream)] == [
            "issuer.resumed",
            "daemon.failed",
            "clock.skewed",
        ]
