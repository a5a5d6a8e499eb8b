"""The command line: runs one command, and turns its error into a message and an exit code.

Results go to standard output, everything else to standard error. No command shows a secret. Tracebacks are
redacted before they are printed, because they contain values.
"""

import contextlib
import ctypes
import resource
from collections.abc import Sequence

import click

from idiolectd import __version__
from idiolectd.cli.exits import ExitCode, judged
from idiolectd.cli.help_sections import CommandsOnDemand, SectionedGroup
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import open_missing_streams, put, say, silence_stdout
from idiolectd.errors import NoSessionError, StoreError

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        put(f"{context.find_root().info_name} {__version__}")
        context.exit()


# A command is imported when it is typed: each start of the program pays for one only.
_UPSTREAM_COMMANDS = {
    "login": "idiolectd.cli.login:login_command",
    "list": "idiolectd.cli.status:list_command",
    "logout": "idiolectd.cli.logout:logout_command",
}
_COMMANDS = {
    "run": "idiolectd.cli.run:run_command",
    **_UPSTREAM_COMMANDS,
    "refresh": "idiolectd.cli.refresh:refresh_command",
    "pause": "idiolectd.cli.pause:pause_command",
    "resume": "idiolectd.cli.pause:resume_command",
    "status": "idiolectd.cli.status:status_command",
    "check": "idiolectd.cli.check:check_command",
    "import": "idiolectd.cli.import_sessions:import_command",
    "export": "idiolectd.cli.export:export_command",
    "migrate": "idiolectd.cli.migrate:migrate_command",
    "backup": "idiolectd.cli.backup:backup_command",
    "restore": "idiolectd.cli.backup:restore_command",
    "headers": "idiolectd.cli.headers:headers_command",
    "rekey": "idiolectd.cli.rekey:rekey_command",
    "client": "idiolectd.cli.client:client_group",
    "unit": "idiolectd.cli.unit:unit_command",
}


@click.group(
    cls=SectionedGroup,
    commands=CommandsOnDemand(_COMMANDS),
    context_settings={"help_option_names": ["-h", "--help"]},
    sections={
        "Start here": (
            ("idiolectd login HANDLE", "store a session"),
            ("idiolectd run", "keep it alive"),
            ("idiolectd status", "see how it is"),
        ),
        "Exit codes": (
            ("0", "done"),
            ("1", "failed"),
            ("2", "wrong usage or configuration"),
            ("3", "a login is required"),
            ("75", "try again later"),
        ),
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@common
def group() -> None:
    """Keep ATProto sessions alive: one process refreshes, everybody else reads the store.

    HANDLE in the examples is an account's handle, such as NAME.bsky.social; its DID means the same.
    """


@group.group(
    "oauth",
    cls=SectionedGroup,
    commands=CommandsOnDemand(_UPSTREAM_COMMANDS),
    sections={
        "Examples": (
            ("idiolectd oauth login --handle HANDLE --pds-url https://bsky.social", "login"),
            ("idiolectd oauth list", "list"),
            ("idiolectd oauth logout --did DID", "logout"),
        )
    },
    help="login, list and logout, as the upstream CLI spells them.",
)
@common
def oauth_group() -> None:
    """Offers login, list and logout with the options of ``idiolect oauth`` of the upstream CLI."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code.

    Args:
        arguments: the arguments after the program's name; None: those of `sys.argv`.
    """
    open_missing_streams()
    _keep_memory_private()
    options = Options()
    try:
        result = group.main(arguments, prog_name="idiolectd", standalone_mode=False, obj=options)
    except BrokenPipeError:  # `idiolectd list | head`: the reader has closed the pipe
        silence_stdout()
        return ExitCode.FAILED
    except SystemExit as end:  # click raises it if it finds the broken pipe first
        return end.code if isinstance(end.code, int) else ExitCode.FAILED
    except BaseException as error:  # noqa: BLE001 - the last place that can redact it
        code, message = judged(error)
        if isinstance(error, StoreError | NoSessionError) and options.used is not None:
            from idiolectd.cli.places import about_store

            if isinstance(error, NoSessionError):  # with the store that the login needs
                todo = options.used.commands.typed("login", error.did)
                message = f"no session is stored for {error.did}; run: {todo}"
            message += about_store(options.used)
        say(message)
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _keep_memory_private() -> None:
    """Prevents core files, which would contain tokens, and reading its memory by the user's programs.

    ``PR_SET_DUMPABLE = 0`` refuses ``ptrace`` and gives most of ``/proc/PID`` to root.
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no C library to be found
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with contextlib.suppress(OSError, ValueError):  # refused by a sandbox, which has its own limit
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
