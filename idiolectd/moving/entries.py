"""Finds the entries of texts and rows. Pure; it judges what a form looks like as little as possible."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from idiolectd.did import parse_did
from idiolectd.errors import DidError
from idiolectd.moving.found import Entry, Unusable, parsed

# The separator of the Python SDK's session strings, and the name that such a line gets as an entry's only field.
STRING_SEPARATOR = ":::"
STRING_FIELD = "session string"

# The columns under which programs keep a whole session as JSON, and those with its account's DID.
_VALUE_COLUMNS = ("value", "session", "session_data", "data", "body_json", "json")
_DID_COLUMNS = ("key", "did", "sub", "account_did", "id")


def entries_of_text(data: bytes, where: str) -> list[Entry | Unusable]:
    """Finds the entries of a file: a JSON value, JSON lines, session strings, or CSV with a line of names.

    Args:
        data: what it holds.
        where: the file's name.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [Unusable(where, "not UTF-8")]
    value = parsed(text)
    if isinstance(value, dict | list):
        return list(_of_json(value, where))
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        return [Unusable(where, "is empty")]
    if lines[0][1].startswith("{") or STRING_SEPARATOR in lines[0][1]:
        return [found for number, line in lines for found in _of_line(line, f"{where}, line {number}")]
    return list(_of_csv(text, where))


def entries_of_rows(rows: Iterable[Mapping[str, Any]], where: str) -> list[Entry | Unusable]:
    """Finds the entries of a database's table.

    Args:
        rows: each with its values by the columns' names.
        where: the database and the table.
    """
    return [_of_row(row, f"{where}, row {number}") for number, row in enumerate(rows, 1)]


def _of_json(value: Any, where: str) -> Iterator[Entry | Unusable]:
    if isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield _one(item, f"{where}, entry {number}")
    elif value and all(map(_is_did, value)):
        for did, item in value.items():
            yield _one(item, f"{where}, {did}", did)
    else:
        yield _one(value, where)


def _one(value: Any, where: str, did: str | None = None) -> Entry | Unusable:
    fields = parsed(value) if isinstance(value, str) else value
    if isinstance(fields, dict):
        return Entry(where, fields, did)
    if isinstance(value, str) and STRING_SEPARATOR in value:
        return Entry(where, {STRING_FIELD: value}, did)
    return Unusable(where, "not a JSON object")


def _of_line(line: str, where: str) -> Iterator[Entry | Unusable]:
    if STRING_SEPARATOR in line and not line.startswith("{"):
        yield Entry(where, {STRING_FIELD: line})
    else:
        yield _one(line, where)


def _of_csv(text: str, where: str) -> Iterator[Entry | Unusable]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if len(reader.fieldnames or ()) < 2:
            yield Unusable(where, "neither JSON, session strings nor CSV")
            return
        for row in reader:
            # Values beyond the last name stand under None.
            fields = {name: value for name, value in row.items() if isinstance(name, str)}
            yield _of_row(fields, f"{where}, line {reader.line_num}")
    except csv.Error:
        yield Unusable(f"{where}, line {reader.line_num}", "not CSV")


def _of_row(row: Mapping[str, Any], where: str) -> Entry:
    """Makes a row's entry: of the JSON object in it, if it keeps the session as one, else of its columns."""
    did = next((row[name] for name in _DID_COLUMNS if _is_did(row.get(name))), None)
    for name in _VALUE_COLUMNS:
        value = row.get(name)
        fields = parsed(value) if isinstance(value, str | bytes) else None
        if isinstance(fields, dict):
            return Entry(where, fields, did)
    return Entry(where, row, did)


def _is_did(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        parse_did(text)
    except DidError:
        return False
    return True
