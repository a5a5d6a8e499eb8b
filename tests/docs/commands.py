"""docs/commands.md: every command, from the declarations that ``--help`` and the manual page are made of."""

import inspect
from collections.abc import Collection, Iterator

import click

from idiolectd.cli import group
from idiolectd.cli.help_sections import SectionedCommand, SectionedGroup

HEAD = """# Commands

ACCOUNT is a DID, or the handle of a stored session. Results are on standard output, everything else on standard
error; every command takes `--json`. The configuration is the first of `--config FILE`, `$IDIOLECTD_CONFIG`,
`~/.config/idiolectd/config.toml` and `/etc/idiolectd/config.toml`; `config.example.toml` explains each key, and a
variable `IDIOLECTD_SECTION__KEY` beats the file. Without any the store is the folder of idiolect's own command line.

This document is written by `make documents` from the commands, and compared by a test.
"""


def commands() -> str:
    """The document."""
    context = click.Context(group, info_name="idiolectd")
    lines = [HEAD, "## Options of every command\n", *_options(group, context), *_sections(group, "##")]
    for command, below in _walk(group, context):
        lines += ["", f"## {below.command_path}\n", f"`{_usage(command, below)}`\n", *_prose(command)]
        options = list(_options(command, below, without={parameter.name for parameter in group.params}))
        lines += [*options, *_sections(command, "**")]
    return "\n".join(lines).rstrip() + "\n"


def _walk(parent: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    for name in parent.list_commands(context):
        command = parent.commands[name]
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _walk(command, below)
        else:
            yield command, below


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _prose(command: click.Command) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield " ".join(paragraph.replace("\b\n", "").split()) + "\n"


def _options(
    command: click.Command, context: click.Context, without: Collection[str | None] = ()
) -> Iterator[str]:
    rows = [
        record
        for parameter in command.params
        if (record := parameter.get_help_record(context)) is not None and record[1]
        if parameter.name not in without
    ]
    if rows:
        yield "| option | |\n|---|---|"
        yield from (_row(*row) for row in rows)


def _sections(command: click.Command, mark: str) -> Iterator[str]:
    if not isinstance(command, SectionedCommand | SectionedGroup):
        return
    for title, pairs in command.sections.items():
        yield f"\n## {title}\n" if mark == "##" else f"\n{title}:\n"
        yield "| | |\n|---|---|"
        yield from (_row(*pair) for pair in pairs)


def _row(text: str, meaning: str) -> str:
    cells = (f"`{' '.join(text.split())}`", " ".join(meaning.split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
