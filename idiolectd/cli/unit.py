"""``idiolectd unit``: the systemd unit for a daemon of one user, who has no root and no package.

Writes at most that one file. What systemd is to do with it is the user's to type.
"""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import click

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put, put_document, put_json, say
from idiolectd.config import Config
from idiolectd.store_url import parse_store_url

_FOLDER = Path("~/.config/systemd/user")

_NEXT = (
    ("systemctl --user enable --now idiolectd", "starts it, now and whenever you log in"),
    ("loginctl enable-linger", "it then runs from boot on, also while you are not logged in"),
)


@click.command(
    "unit",
    cls=SectionedCommand,
    sections={
        "Examples": (("idiolectd unit --write", "once, and again when the program has moved"), *_NEXT),
    },
)
@click.option("--write", is_flag=True, help="Write it to ~/.config/systemd/user/idiolectd.service.")
@common
@click.pass_obj
def unit_command(options: Options, write: bool) -> int:
    """Print the systemd unit for a service of your own.

    It needs no root: your own systemd starts this program, on the store that your commands use. It reads
    the same configuration file; variables of your shell it does not see. A service for the whole host
    comes with the Debian package.
    """
    if os.geteuid() == 0:
        raise CommandFailed(
            ExitCode.USAGE, "this unit is for a user's own service; root installs the package (`make deb`)"
        )
    text = _unit(options.load())
    if unseen := sorted(name for name in os.environ if name.startswith("IDIOLECT")):
        say(f"the service does not see {', '.join(unseen)}: the configuration file can say the same")
    if not write:
        put_document(text)
        return ExitCode.DONE
    path = _FOLDER.expanduser() / "idiolectd.service"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if options.json:
        put_json({"unit": str(path)})
    else:
        put(f"written: {path}")
        put("now type:")
        for command, meaning in _NEXT:
            put(f"  {command:42}# {meaning}")
    return ExitCode.DONE


def _unit(config: Config) -> str:
    """Returns the packaged unit with this program in it, and without what this host's systemd can't do."""
    packaged = (files("idiolectd") / "units" / "idiolectd-user.service").read_text()
    words = [*_program(), "run", *config.commands.options]
    text = packaged.replace("/usr/bin/idiolectd run", " ".join(map(_quoted, words)))
    sandbox = text[text.index("PrivateUsers=") : text.index("\n[Install]")]
    if not _is_possible(sandbox):
        say("left out what hides the rest of the file system from the service: it does not work here")
        return text.replace(sandbox, "#" + sandbox.rstrip("\n").replace("\n", "\n#") + "\n")
    store = parse_store_url(config.store.url)
    if store.kind == "memory" or store.path.is_relative_to(Path.home()):
        return text
    folder = store.path if store.kind == "file" else store.path.parent
    return text.replace(sandbox, f"{sandbox}ReadWritePaths={_quoted(str(folder))}\n")


def _is_possible(sandbox: str) -> bool:
    """Whether the user's systemd starts a program with these lines."""
    properties = [f"--property={line}" for line in sandbox.replace("%h", str(Path.home())).splitlines()]
    # A oneshot, whose start is waited for; --wait would need a bus of the user's, which not every host has.
    how = ("--user", "--quiet", "--collect", "--service-type=oneshot")
    command = ["systemd-run", *how, *properties, "true"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _program() -> list[str]:
    """Returns how this program was called, by a path that stays: pipx's link, not what it points to today."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return [sys.executable, "-m", "idiolectd"]
    return [str(program.absolute())]


def _quoted(word: str) -> str:
    """Quotes a word for systemd.service(5), where ``%``, ``$`` and backslashes have meanings."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if " " in word or '"' in word or "'" in word else word
