"""A document that shows what is typed and what comes: its commands are typed anew, and what comes now is put in.

In a block ``console``, a line that begins with ``# `` is typed by root and one with ``$ `` by a client program's user.
What differs each time (process IDs, ages, addresses) is written as it was once.
"""

import re
from collections.abc import Callable

Typed = Callable[[str, bool], str]
"""Types a command, as root or as a client's user; returns what a terminal would show."""

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^[#$] .*$", re.MULTILINE)
_DIFFERS = (
    (r"^debconf: .*\n", ""),  # a Debian without apt-utils
    (r"did:plc:[a-z2-7]{24}", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
    (r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:2583"),
    (r"\bpid \d+", "pid 812"),
    (r"\bversion [\w.]+", "version X.Y.Z"),
    (r"\bstarted (now|\d+s ago)", "started 8s ago"),
    (r"\bsince [\d-]+T[\d:.]+Z", "since 2026-11-28T09:00:00.000Z"),
    (r"\bin \d\dm( +)in \d\dm ", r"in 99m\1in 79m "),
    (r"\b3\.\d+\.\d+ can corrupt", "3.40.1 can corrupt"),
    (r"/spill/[0-9a-f]{16}", "/spill/ba246bbc1bbdedce"),
)


def typed_anew(document: str, type_: Typed) -> str:
    """Returns a document with what its commands show now.

    Args:
        document: Markdown.
        type_: types a command.
    """
    return _BLOCK.sub(lambda block: "".join(_shown(block[0], type_)), document)


def _shown(block: str, type_: Typed) -> list[str]:
    lines: list[str] = []
    for command in _COMMAND.findall(block):
        shown = type_(command[2:], command.startswith("#"))
        for pattern, once in _DIFFERS:
            shown = re.sub(pattern, once, shown, flags=re.MULTILINE)
        lines += [f"{command}\n", *(f"{line.rstrip()}\n" for line in shown.rstrip().splitlines())]
    return lines
