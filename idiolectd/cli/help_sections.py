"""Commands whose ``--help`` ends in sections: examples, and tables of what states or codes mean."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from typing import Any

import click

from idiolectd.cli.output import put_page

Sections = Mapping[str, Sequence[tuple[str, str]]]


class CommandsOnDemand(MutableMapping[str, click.Command]):
    """The commands of a group; each is imported when it is asked for.

    Args:
        places: for each command's name its module and its name there, as ``package.module:name``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._found: dict[str, click.Command | str] = {**places}

    def __getitem__(self, name: str) -> click.Command:
        """Returns a command."""
        found = self._found[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            self._found[name] = found = command
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        """Adds a command."""
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        """Removes a command."""
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names; imports nothing."""
        return iter(self._found)

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._found)


class _Helped(click.Command):
    """A command that writes its help with the same checks as any other output."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Returns click's own option, with another callback that writes the help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        put_page(context.get_help() + "\n")
        context.exit()


class SectionedCommand(_Helped):
    """A command whose help has sections below the options.

    Attributes:
        sections: the titles; to each a list of pairs (text, meaning).
    """

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self.sections, formatter)


class SectionedGroup(_Helped, click.Group):
    """The same for a group. Its help lists the commands in the order in which they were added."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; without any, writes the help and ends the command."""
        if not args and not ctx.resilient_parsing:
            put_page(ctx.get_help() + "\n")
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order in which they were added."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self.sections, formatter)


def write_sections(sections: Sections, formatter: click.HelpFormatter) -> None:
    """Writes each section's pairs in two columns."""
    for title, pairs in sections.items():
        with formatter.section(title):
            formatter.write_dl(pairs)
