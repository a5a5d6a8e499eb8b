"""The options that every command takes, and the configuration that they lead to.

What loads that is imported when it is needed: ``--version`` and ``--help`` need none of it.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from idiolectd.cli.output import say
from idiolectd.store_url import is_plain_path

if TYPE_CHECKING:
    from idiolectd.config import Config
    from idiolectd.events import Event, EventSink
    from idiolectd.log import Format, LogSink

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass
class Options:
    """The values of the options that every command takes.

    Attributes:
        config: the configuration file; None: the first found of the usual ones.
        store: the store's URL; None: as configured.
        json: whether to write JSON.
        used: the configuration that was loaded; None: not yet.
        unused: what there is beside it on this host and is not used, a sentence each.
    """

    config: Path | None = None
    store: str | None = None
    json: bool = False
    used: "Config | None" = None
    unused: list[str] = field(default_factory=list)

    def load(self) -> "Config":
        """Loads the configuration.

        Raises:
            ConfigError: it is wrong.
        """
        from idiolectd.config import load_config

        return load_config(self.config, os.environ, store_url=_absolute(self.store))

    def load_as_owner(self, *, making: bool = False) -> "Config":
        """Loads the configuration; if the process runs as root, it becomes the store's owner.

        Values that depend on the home folder or the environment are then those of the store's owner. The
        store's URL stays as root's configuration names it, and so does the configuration file; only with
        ``--store`` and without a named file, the owner's own configuration file is loaded instead.

        Args:
            making: see `idiolectd.cli.privileges.service_user`.

        Raises:
            ConfigError: it is wrong.
            CommandFailed: root can't become the owner, or must not open the store or the configuration; or
                this user may not read the store.
        """
        from idiolectd.cli.places import require_access, unused_places
        from idiolectd.cli.privileges import (
            become,
            environment_of,
            owner_to_become,
            refuse_foreign_configuration,
            service_user,
        )
        from idiolectd.config import load_config

        config = self.load()
        self.used, self.unused = config, unused_places(config, os.environ)
        require_access(config)
        owner = owner_to_become(config.store.url)
        is_named = self.config is not None or "IDIOLECTD_CONFIG" in os.environ
        if config.path is not None and not is_named:
            refuse_foreign_configuration(config.path, owner)
        owner = owner or service_user(config, making=making)
        if owner is None:
            return config
        file = config.path if is_named or self.store is None else None
        self.config, self.store = file, config.store.url
        if file is None:
            become(owner, os.environ)
            loaded = self.load()
        else:
            # Loaded before `become`: the owner may not be allowed to read the file.
            loaded = load_config(file, environment_of(owner, os.environ), store_url=self.store)
            become(owner, os.environ)
        # As root finds them, who reads the messages.
        self.used = replace(loaded, store_named_by=config.store_named_by, commands=config.commands)
        return self.used

    def say_unused(self) -> None:
        """Says which other store or configuration there is on this host and is not used."""
        for sentence in self.unused:
            say(sentence)


def common(command: CommandT) -> CommandT:
    """Adds ``--config``, ``--store`` and ``--json``, which may stand before or after a command's name."""
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


def make_sink(config: "Config", *, json: bool = False) -> "LogSink":
    """Makes the log on standard error, in the configured format; `json`: in JSON whatever is configured."""
    from idiolectd.log import log_sink  # costs as much as all else of a short command

    usual: Format = "console" if sys.stderr.isatty() else "json"
    return log_sink("json" if json else config.log.format or usual, config.log.level, sys.stderr)


def command_events(config: "Config") -> "EventSink":
    """Makes the log of a short-lived command: warnings and errors, without those that its output reports."""
    from idiolectd.events import SessionProblem

    sink = make_sink(config)
    if config.log.level == "info":
        sink.level = "warning"

    def tell(event: "Event") -> None:
        if not isinstance(event, SessionProblem):
            sink(event)

    return tell


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = context.ensure_object(Options)
    if value is not None and parameter.name is not None:
        setattr(options, parameter.name, value)


def _absolute(store: str | None) -> str | None:
    """Makes a relative path absolute; keeps a final slash, which marks a folder."""
    if store is None or not store.strip() or not is_plain_path(store) or store.startswith("~/"):
        return store
    return os.path.abspath(store) + ("/" if store.endswith("/") else "")  # noqa: PTH100 - keeps symlinks
