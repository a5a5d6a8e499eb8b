"""``idiolectd backup`` and ``restore``: copies a store into one file while it is used, and brings sessions back.

A restored refresh token may have been used up since the backup, and sending it then would end the session that
lives. So restored sessions are marked, and the engine sends nothing before it is shown to be safe.
"""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.running import run_async
from idiolectd.clock import SystemClock, rfc3339
from idiolectd.config import Config
from idiolectd.errors import RecordError
from idiolectd.finish import in_thread
from idiolectd.ports import Committed, SharedStore

if TYPE_CHECKING:
    from idiolectd.ports import StoredCopy
    from idiolectd.store import Backup, BackupSummary, BackupWriter

# How many sessions are stored before the file is read on.
_PAGE = 100


@click.command(
    "backup",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd backup sessions.backup", "while everything runs"),
            ("idiolectd backup --force sessions.backup", "in the place of the last one"),
        ),
    },
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, resolve_path=True))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@common
@click.pass_obj
def backup_command(options: Options, file: Path, force: bool) -> int:
    """Copy all sessions into FILE, while the daemon and others use the store.

    FILE is whole or not there, and nobody but the store's user can read it: it holds refresh tokens. The
    store's user must be allowed to write in its folder.
    """
    config = options.load_as_owner()
    require_store(config)
    with _file_errors(f"can't write {file}"):
        if file.exists() and not force:
            raise FileExistsError
        done = run_async(partial(_back_up, config, file, overwrite=force))
    if options.json:
        put_json({"file": str(file), **vars(done)})
    else:
        put(f"backed up: {_counted(done.sessions)}{_spilled(done)} in {file}")
    return ExitCode.DONE


@click.command(
    "restore",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd restore sessions.backup", "what the store does not have, or has older"),
            ("idiolectd status", "shows which sessions need a login"),
        ),
    },
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True, resolve_path=True))
@common
@click.pass_obj
def restore_command(options: Options, file: Path) -> int:
    """Bring the sessions of a backup back into the store, which is made if there is none.

    A session that the store holds already stays, unless the backup's is newer. The refresh token of a restored
    session is sent only if its server still takes the access token beside it, or nobody can have refreshed it
    since; else the session needs a login (restored_copy). It can be repeated. A running daemon notices.
    """
    config = options.load_as_owner(making=True)
    with _file_errors(f"can't restore {file}"):
        taken_at, done = run_async(partial(_restore, config, file))
    if options.json:
        put_json({"file": str(file), "taken_at": taken_at, **done})
    else:
        put(
            f"restored: {_counted(done['restored'])}; {done['kept']} stayed as the store has them"
            f" (backup of {taken_at})"
        )
    return ExitCode.FAILED if done["unreadable"] else ExitCode.DONE


@contextmanager
def _file_errors(what: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise CommandFailed(ExitCode.FAILED, f"{what}: it is there already; --force replaces it") from None
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"{what}: {error.strerror}") from None


def _counted(sessions: int) -> str:
    return f"{sessions} session{'' if sessions == 1 else 's'}"


def _spilled(done: "BackupSummary") -> str:
    return f" and {done.spills} spilled tokens" if done.spills else ""


# The backup --------------------------------------------------------------------------------------


async def _back_up(config: Config, file: Path, *, overwrite: bool) -> "BackupSummary":
    from idiolectd.store import BackupWriter, open_configured_store

    async with open_configured_store(config.store) as store:
        writer = await in_thread(BackupWriter, file, rfc3339(SystemClock().now()))
        try:
            await _copy(store, writer)
            return await in_thread(partial(writer.finish, overwrite=overwrite))
        finally:
            writer.discard()


async def _copy(store: SharedStore, writer: "BackupWriter") -> None:
    # The spill first: what is adopted meanwhile is in the records then, and of no use here.
    if store.spill is not None:
        for name, text in (await store.spill.copies()).items():
            writer.put_spill(name, text)
    async with aclosing(store.copies()) as pages:
        async for page in pages:
            for copy in page:
                writer.put(copy)


# The way back ------------------------------------------------------------------------------------


async def _restore(config: Config, file: Path) -> "tuple[str, dict[str, int]]":
    from idiolectd.store import Backup, open_configured_store

    backup = await in_thread(Backup.open, file)
    async with open_configured_store(config.store) as store:
        await store.ensure_writable()
        # The spill first: a session looks there when it is first seen.
        if store.spill is not None:
            for name, text in backup.spills():
                await store.spill.put_copy(name, text)
        return backup.summary.taken_at, await _put_back(store, backup)


async def _put_back(store: SharedStore, backup: "Backup") -> dict[str, int]:
    import anyio

    counts = {"restored": 0, "kept": 0, "unreadable": 0}

    async def put_one(copy: "StoredCopy") -> None:
        try:
            done = await store.restore(copy)
        except RecordError as error:
            say(f"{copy.did} can't be restored: {error}")
            counts["unreadable"] += 1
        else:
            counts["restored" if done is Committed.DONE else "kept"] += 1

    sessions = backup.sessions()
    while page := list(islice(sessions, _PAGE)):
        async with anyio.create_task_group() as tg:  # those of one page share their commits
            for copy in page:
                tg.start_soon(put_one, copy)
    return counts
