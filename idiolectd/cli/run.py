"""``idiolectd run``: the daemon, in the foreground."""

import os
import signal

import click

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common, make_sink
from idiolectd.errors import LockBusy
from idiolectd.log import capture_logging
from idiolectd.systemd import Notifier


@click.command(
    "run",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd run", "with the configured store"),
            ("idiolectd run --store ~/sessions.sqlite", "with this store"),
            ("IDIOLECTD_LOG__LEVEL=debug idiolectd run", "with one key changed"),
        ),
    },
)
@common
@click.pass_obj
def run_command(options: Options) -> int:
    """Keep every stored session alive, in the foreground.

    Each store has one daemon, which refreshes; other programs read the store. Events go to standard error,
    as JSON unless that is a terminal (--json: always). On SIGTERM or SIGINT it finishes and saves the
    refreshes that were sent, then ends. On SIGHUP it reads the configuration again.
    """
    from idiolectd import daemon  # the other commands start faster without it

    if os.getpid() == 1:
        # In a container: processes that others left behind become ours, and the kernel is to bury them.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    config = options.load_as_owner(making=True)
    sink = make_sink(config, json=options.json)
    capture_logging(sink)

    try:
        return daemon.run(config, reload=options.load, log=sink, notifier=Notifier(os.environ))
    except LockBusy as error:  # another daemon runs on this store: trying later would not help
        raise CommandFailed(ExitCode.FAILED, str(error)) from None
