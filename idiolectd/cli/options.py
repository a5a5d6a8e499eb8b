"""The options that every command takes, and the way from them to a configuration."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from idiolectd.cli.privileges import become, environment_of, owner_to_become, refuse_foreign_configuration
from idiolectd.config import Config, load_config
from idiolectd.events import Event, EventSink, SessionProblem
from idiolectd.log import Format, LogSink, log_sink
from idiolectd.store_url import is_plain_path

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass
class Options:
    """What the command line says about every command.

    Attributes:
        config: the configuration file; None: search.
        store: the store's URL; None: as configured.
        json: output for programs.
    """

    config: Path | None = None
    store: str | None = None
    json: bool = False

    def load(self) -> Config:
        """The configuration.

        Raises:
            ConfigError: it is wrong.
        """
        return load_config(self.config, os.environ, store_url=_absolute(self.store))

    def load_as_owner(self) -> Config:
        """The configuration; after it, a process of root's has become the store's owner.

        What the configuration derives from a home folder or the environment is then that user's. The
        store stays the one that was named; so does the file, unless ``--store`` named the store and
        nothing a file: then that user's own is looked for.

        Raises:
            ConfigError: it is wrong.
            CommandFailed: root can't become the owner, or must not open what is there.
        """
        config = self.load()
        owner = owner_to_become(config.store.url)
        is_named = self.config is not None or "IDIOLECTD_CONFIG" in os.environ
        if config.path is not None and not is_named:
            refuse_foreign_configuration(config.path, owner)
        if owner is None:
            return config
        file = config.path if is_named or self.store is None else None
        self.config, self.store = file, config.store.url
        if file is None:
            become(owner, os.environ)
            return self.load()
        # Read before: the file may be closed to that user.
        config = load_config(file, environment_of(owner, os.environ), store_url=self.store)
        become(owner, os.environ)
        return config


def common(command: CommandT) -> CommandT:
    """Adds ``--config``, ``--store`` and ``--json``, so that they may stand before or after a command."""
    for decorate in (
        click.option(
            "--json",
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_keep,
            help="Write JSON, for programs.",
        ),
        click.option(
            "--store",
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help="The store: sqlite:///PATH, file:///FOLDER, or a path. [default: as configured]",
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_keep,
            help="The configuration file. [default: $IDIOLECTD_CONFIG, ~/.config/idiolectd/config.toml,"
            " /etc/idiolectd/config.toml: the first found]",
        ),
    ):
        command = decorate(command)
    return command


def make_sink(config: Config, *, json: bool = False) -> LogSink:
    """The log on standard error, as configured, or as JSON in any case."""
    usual: Format = "console" if sys.stderr.isatty() else "json"
    return log_sink("json" if json else config.log.format or usual, config.log.level, sys.stderr)


def command_events(config: Config) -> EventSink:
    """The log of a short-lived command: what it doesn't tell by itself, and only what is wrong."""
    sink = make_sink(config)
    if config.log.level == "info":
        sink.level = "warning"

    def tell(event: Event) -> None:
        if not isinstance(event, SessionProblem):
            sink(event)

    return tell


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = context.ensure_object(Options)
    if value is not None and parameter.name is not None:
        setattr(options, parameter.name, value)


def _absolute(store: str | None) -> str | None:
    """A path on the command line is meant from the working folder; a final slash says "folder"."""
    if store is None or not is_plain_path(store) or store.startswith("~/"):
        return store
    return os.path.abspath(store) + ("/" if store.endswith("/") else "")  # noqa: PTH100 - keeps symlinks
