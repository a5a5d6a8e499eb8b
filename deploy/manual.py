"""The manual pages: idiolectd(1) from the commands, idiolectd.toml(5) from the keys of the configuration."""

import inspect
from collections.abc import Collection, Iterator

import click

from idiolectd import __version__
from idiolectd.cli import group
from idiolectd.cli.help_sections import SectionedCommand, SectionedGroup
from idiolectd.config.settings import KEYS, SECTIONS


def program_page() -> str:
    """Returns idiolectd(1) in the language of man(7)."""
    context = click.Context(group, info_name="idiolectd")
    return _page(
        [
            *_head("idiolectd", 1, group.get_short_help_str(200)),
            ".SH SYNOPSIS",
            ".B idiolectd",
            *_plain("COMMAND [OPTIONS] [ARGUMENTS]"),
            ".SH DESCRIPTION",
            *_prose(group.help),
            ".SH OPTIONS",
            "Every command takes these.",
            *_options(group, context),
            ".SH COMMANDS",
            *_commands(group, context),
            *_sections(group, ".SH"),
            ".SH FILES",
            *_tagged("/etc/idiolectd/config.toml", "the configuration of the service"),
            *_tagged("/var/lib/idiolectd", "the service's store"),
            *_tagged("~/.config/idiolectd/config.toml", "the configuration of one user"),
            *_tagged("~/.config/idiolect/sessions", "the store where no configuration names another"),
            ".SH SEE ALSO",
            r".BR idiolectd.toml (5)",
        ]
    )


def configuration_page() -> str:
    """Returns idiolectd.toml(5) in the language of man(7)."""
    lines = [
        *_head("idiolectd.toml", 5, "configuration of idiolectd"),
        ".SH DESCRIPTION",
        *_prose(
            "The configuration is TOML. Every key may be left out. It is read from the first of: --config FILE,"
            " $IDIOLECTD_CONFIG, ~/.config/idiolectd/config.toml, /etc/idiolectd/config.toml. The variable that"
            " is named with each key beats the file. SIGHUP, and so systemctl reload idiolectd, applies changes,"
            " except to keys that say they need a restart.\n\n`idiolectd check` tells what is wrong."
        ),
    ]
    for section, declared in SECTIONS.items():
        lines += [*_heading(".SH", f"[{section}]"), *_prose(declared.__doc__)]
        for key in KEYS.values():
            if key.section == section:
                restart = "" if key.reload else " A change needs a restart."
                lines += [
                    *_tagged(f"{key.name} = {key.example}", f"{key.doc}{restart}"),
                    ".RS",
                    ".PP",
                    *_plain(f"Variable: {key.variable}"),
                    ".RE",
                ]
    return _page([*lines, ".SH SEE ALSO", r".BR idiolectd (1)"])


def _head(name: str, section: int, about: str) -> list[str]:
    title = f'.TH {name.upper()} {section} "" "idiolectd {__version__}" ""'
    about = f"{about[:1].lower()}{about[1:].rstrip('.')}"
    return [title, ".nh", ".ad l", ".SH NAME", f"{name} \\- {_escaped(about)}"]


def _commands(parent: click.Group, context: click.Context) -> Iterator[str]:
    for name in parent.list_commands(context):
        command = parent.commands[name]
        below = click.Context(command, info_name=name, parent=context)
        yield from _heading(".SS", " ".join([below.command_path, *command.collect_usage_pieces(below)]))
        yield from _prose(command.help)
        yield from _options(command, below, without={parameter.name for parameter in group.params})
        if isinstance(command, click.Group):
            yield from _commands(command, below)
        yield from _sections(command, ".PP")


def _options(
    command: click.Command, context: click.Context, without: Collection[str | None] = ()
) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and record[1] and parameter.name not in without:
            yield from _tagged(*record)


def _sections(command: click.Command, macro: str) -> Iterator[str]:
    if isinstance(command, SectionedCommand | SectionedGroup):
        for title, pairs in command.sections.items():
            yield from _heading(macro, title.upper() if macro == ".SH" else f"{title}:")
            for text, meaning in pairs:
                yield from _tagged(text, meaning)


def _heading(macro: str, text: str) -> list[str]:
    return [".PP", *_plain(text)] if macro == ".PP" else [f'{macro} "{_escaped(text)}"']


def _tagged(tag: str, text: str) -> list[str]:
    return [".TP", f'.B "{_escaped(tag)}"', *_plain(text)]


def _prose(text: str | None) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        yield ".PP"
        yield from _plain(" ".join(paragraph.replace("\b\n", "").split()))


def _plain(text: str) -> list[str]:
    """Returns text as a line that troff takes for text."""
    line = _escaped(text)
    return [f"\\&{line}" if line.startswith((".", "'")) else line]


def _escaped(text: str) -> str:
    """Escapes what troff would take for itself; ``-`` stays what a person can copy to a shell."""
    for character, written in (
        ("\\", "\\e"),
        ("-", "\\-"),
        ('"', "\\(dq"),
        ("~", "\\(ti"),
        ("^", "\\(ha"),
        ("`", "\\(ga"),
    ):
        text = text.replace(character, written)
    return text


def _page(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
