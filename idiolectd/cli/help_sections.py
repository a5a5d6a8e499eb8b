"""Commands whose ``--help`` ends in sections: examples, and tables of what states or codes mean."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from idiolectd.cli.output import put_page

Sections = Mapping[str, Sequence[tuple[str, str]]]


class _Helped(click.Command):
    """A command whose help is output like any other."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Click's own, but for where it writes."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        put_page(context.get_help() + "\n")
        context.exit()


class SectionedCommand(_Helped):
    """A command with sections below its options, each of pairs: what to type, what it means."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self._sections, formatter)


class SectionedGroup(_Helped, click.Group):
    """The same for the program as a whole. Commands are listed in the order in which one needs them."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self._sections, formatter)


def write_sections(sections: Sections, formatter: click.HelpFormatter) -> None:
    """Writes pairs in two columns, or below each other where the first is long."""
    for title, pairs in sections.items():
        with formatter.section(title):
            formatter.write_dl(pairs)
