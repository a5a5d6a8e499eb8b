"""Commands whose ``--help`` ends in sections: examples, and tables of what states or codes mean."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from idiolectd.cli.output import put_page

Sections = Mapping[str, Sequence[tuple[str, str]]]


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
    """A command whose help has sections below the options; each is a list of pairs (text, meaning)."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self._sections, formatter)


class SectionedGroup(_Helped, click.Group):
    """The same for a group. Its help lists the commands in the order in which they were added."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the commands in the order in which they were added."""
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections."""
        write_sections(self._sections, formatter)


def write_sections(sections: Sections, formatter: click.HelpFormatter) -> None:
    """Writes each section's pairs in two columns."""
    for title, pairs in sections.items():
        with formatter.section(title):
            formatter.write_dl(pairs)
