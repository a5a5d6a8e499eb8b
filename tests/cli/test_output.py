"""What commands write: the same JSON everywhere, text that any terminal takes, and words for a full disk."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from idiolectd.cli.exits import CommandFailed, judged
from idiolectd.cli.output import put, put_document, put_json, say, show
from idiolectd.cli.tables import print_table
from tests.cli.conftest import Pds, put_record

HANDLE = "bücher\x9b2J\u202e.test"
ROOT = Path(__file__).parents[2]


class Written(io.TextIOWrapper):
    """A standard stream in some encoding, as a locale makes it."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8", "utf-16-le"])
def test_json_is_the_same_bytes_in_every_locale(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASCII, and no control character or change of direction as it is."""
    out = Written(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    put_json([{"handle": HANDLE + "\x7f"}])
    found = out.bytes.getvalue()
    assert json.loads(found) == [{"handle": HANDLE + "\x7f"}]
    assert found.replace(b"\n", b"").isascii()
    assert found.decode("ascii").replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", rb"b\xfccher"), ("iso-8859-1", b"b\xfccher"), ("utf-8", "bücher".encode())],
)
def test_text_is_shown_as_well_as_the_terminal_can(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lacks is escaped, what would move its cursor is not there."""
    out, err = Written(encoding), Written(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    put(HANDLE)
    print_table(("HANDLE",), [(HANDLE,)])
    say(HANDLE)
    show(HANDLE)
    assert out.bytes.getvalue().count(shown) == 2
    assert err.bytes.getvalue().count(shown) == 2
    for found in (out, err):
        text = found.bytes.getvalue().decode(encoding)
        assert "\x9b" not in text
        assert "\u202e" not in text


def test_a_hosted_file_is_utf8_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so of itself."""
    out = Written("iso-8859-1")
    monkeypatch.setattr(sys, "stdout", out)
    put_document("ü")
    assert out.bytes.getvalue() == "ü".encode()


class Refusing(io.RawIOBase):
    """What a full disk, or anything else, does to a standard stream."""

    def __init__(self, code: int) -> None:
        self._code = code
        self.is_mended = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.is_mended:
            raise OSError(self._code, os.strerror(self._code))
        return len(data)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "No space left on device; free some disk space"),
        (errno.EBADF, "standard output is closed"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_output_that_cant_be_written_is_no_bug(
    code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said what is wrong with it. On standard error it can't be said, and ends nothing."""
    disk = Refusing(code)
    stream = io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(CommandFailed, match=words) as caught:
        put("x")
    assert judged(caught.value)[0] == 1
    monkeypatch.setattr(sys, "stderr", stream)
    say("x")
    disk.is_mended = True  # it is flushed once more when it is closed


def test_real_processes(environ: dict[str, str], pds: Pds, store: Path) -> None:
    """One handle with an umlaut ends no command, and output that can't be written is exit 1 with a reason."""
    put_record(store, pds.account("umlaut.test", legacy=1)["legacy"][0] | {"handle": HANDLE})
    environ = {
        name: value for name, value in environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))
    }
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    cases = {
        "ascii": ("status --json", ascii_only),
        "latin": ("status --json", {"PYTHONIOENCODING": "iso-8859-1"}),
        "list": ("list", ascii_only),
        "status": ("status", ascii_only),
        "full": ("status --json >/dev/full", {}),
        "full text": ("status >/dev/full", {}),
        "help": ("--help >/dev/full", {}),
        "closed": ("status >&-", {}),
        "all closed": ("status <&- >&- 2>&-", {}),
        "mute": ("status --json 2>&-", {}),
    }
    started = {
        name: subprocess.Popen(
            ["sh", "-c", f"exec {sys.executable} -m idiolectd {command}"],
            cwd=ROOT,
            env=environ | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, (command, more) in cases.items()
    }
    done = {
        name: (*process.communicate(timeout=120), process.returncode) for name, process in started.items()
    }
    assert {name: code for name, (_, _, code) in done.items()} == {
        **dict.fromkeys(("ascii", "latin", "list", "status", "mute"), 0),
        **dict.fromkeys(("full", "full text", "help", "closed", "all closed"), 1),
    }
    assert done["ascii"][0] == done["latin"][0] == done["mute"][0]
    assert json.loads(done["ascii"][0])["sessions"][0]["handle"] == HANDLE
    for name in ("full", "full text", "help"):
        assert done[name][1] == (
            b"idiolectd: can't write to standard output: No space left on device; free some disk space\n"
        )
    assert done["closed"][1] == b"idiolectd: standard output is closed: the result is lost\n"
    for name in ("list", "status"):
        assert rb"b\xfccher\ufffd2J\ufffd.test" in done[name][0]


def test_nobody_else_writes() -> None:
    """Every word of a command goes through `output`: elsewhere nothing is echoed or printed."""
    for path in (ROOT / "idiolectd").rglob("*.py"):
        text = path.read_text()
        # `__main__` says that the command line, and so `output`, is not installed.
        if path.name not in ("output.py", "__main__.py"):
            assert not any(way in text for way in ("click.echo", "stdout.write", "stderr.write", "secho(")), (
                path
            )
