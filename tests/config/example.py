"""The example configuration, written from the table of keys.

``config.example.toml`` is this text; a test compares the two, and `python -m tests.config.example` writes it
anew. Every key is there, commented out, as its default or as something typical.
"""

import textwrap
from pathlib import Path

from idiolectd.config.settings import KEYS, SECTIONS

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"

_HEAD = """\
The configuration of idiolectd. Every key may be left out; those with a default show it.

Read from the first of: --config FILE, $IDIOLECTD_CONFIG, ~/.config/idiolectd/config.toml,
/etc/idiolectd/config.toml. A variable IDIOLECTD_<SECTION>__<KEY> beats the file, as in
IDIOLECTD_STORE__URL. `idiolectd check` tells what is wrong. SIGHUP (systemctl reload) applies
changes, except to keys marked "restart".
"""


def example() -> str:
    """The text of ``config.example.toml``."""
    lines = [f"# {line}".rstrip() for line in _HEAD.splitlines()]
    for section, declared in SECTIONS.items():
        lines += ["", f"# {declared.__doc__}", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section:
                doc = key.doc if key.reload else f"{key.doc} (restart)"
                lines += [
                    "",
                    *(f"# {line}" for line in textwrap.wrap(doc, 98)),
                    f"#{key.name} = {key.example}",
                ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    EXAMPLE.write_text(example())
