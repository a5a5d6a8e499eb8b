"""``idiolectd migrate``: moves all sessions from one store to another, such as from files to SQLite.

No daemon may run on either store: the command holds the locks of both daemons meanwhile. The source keeps its
records, and nothing is sent for them any more.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from idiolectd.cli.existing_store import is_missing, require_store
from idiolectd.cli.exits import CommandFailed, ExitCode, code_of
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import joined, put, put_json, say
from idiolectd.cli.progress import progress
from idiolectd.cli.running import run_async
from idiolectd.clock import SystemClock
from idiolectd.config import Config
from idiolectd.errors import IdiolectError
from idiolectd.log import redact
from idiolectd.moving.migration import Migrated, migrate
from idiolectd.policy import CLAIM_PATIENCE
from idiolectd.store_url import parse_store_url

if TYPE_CHECKING:
    from idiolectd.ports import SharedStore

# Saves that wait together share one commit.
_AT_ONCE = 50


def _url(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    return str(parse_store_url(text))


@click.command(
    "migrate",
    cls=SectionedCommand,
    sections={
        "Examples": (
            (
                "idiolectd migrate --from ~/.config/idiolect/sessions/ --to sessions.sqlite",
                "what would be moved",
            ),
            ("idiolectd migrate --from file:///srv/sessions --to sqlite:///srv/s.sqlite --yes", "moves it"),
        ),
    },
)
@click.option("--from", "source", metavar="URL", required=True, callback=_url, help="The store to empty.")
@click.option("--to", "target", metavar="URL", required=True, callback=_url, help="The store to fill.")
@click.option("--yes", is_flag=True, help="Move them; without it, say only what would be moved.")
@common
@click.pass_obj
def migrate_command(options: Options, source: str, target: str, yes: bool) -> int:
    """Move all sessions from one store to another.

    Stop the daemon first. Records, what is known of each session and spilled tokens are copied, read back, and
    then the source's sessions are paused for good: nothing is sent for them any more. The command can be
    interrupted and repeated. Then name the new store in the configuration (store.url) and in client programs,
    and start the daemon.
    """
    if parse_store_url(source).path.resolve() == parse_store_url(target).path.resolve():
        raise CommandFailed(ExitCode.USAGE, "--from and --to are the same store")
    options.store = source
    config = options.load_as_owner()
    require_store(config)
    found = run_async(partial(_migrate, config, target, looking=not yes))
    counts = Counter(str(result) for result in found.values())
    if options.json:
        put_json({"from": source, "to": target, "sessions": found})
    else:
        put(joined(f"{count} {result}" for result, count in sorted(counts.items())) or "no sessions")
    if not yes:
        say("nothing was moved; add --yes to move them")
        return ExitCode.DONE
    bad = counts.keys() - {Migrated.MIGRATED, Migrated.ALREADY, Migrated.GONE}
    if bad:
        say("some sessions stay where they were; they are named above, and the command can be repeated")
        return ExitCode.FAILED
    say(f"the sessions of {source} are paused for good; set store.url to {target}, then start the daemon")
    return ExitCode.DONE


async def _migrate(config: Config, target_url: str, *, looking: bool) -> dict[str, str]:
    """Moves every session, or finds out what would become of it; returns the result by DID."""
    from idiolectd.daemon.single_instance import hold_single_instance
    from idiolectd.store import open_configured_store

    # A dry run makes no store.
    to = replace(config.store, url="memory:" if looking and is_missing(target_url) else target_url)
    async with open_configured_store(config.store) as source, open_configured_store(to) as target:
        with ExitStack() as held:
            for store in (source, target):
                held.enter_context(hold_single_instance(store.runtime_dir))
            return await _all(source, target, looking=looking)


async def _all(source: "SharedStore", target: "SharedStore", *, looking: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)
    clock = SystemClock()
    with progress("looking" if looking else "migrating", await source.count()) as advance:

        async def one(did: str) -> None:
            async with limit:
                try:
                    found[did] = await migrate(
                        did, source, target, clock, patience=CLAIM_PATIENCE, looking=looking
                    )
                except IdiolectError as error:
                    found[did] = "try_later" if code_of(error) is ExitCode.TRY_LATER else "failed"
                    say(f"{did}: {redact(str(error))}")
                else:
                    if found[did] == Migrated.OTHER:
                        say(f"{did}: {target.url} has another session of it; log one of the two out")
            advance()

        async for page in source.pages():
            async with anyio.create_task_group() as tg:
                for did in page:
                    tg.start_soon(one, did)
    return found
