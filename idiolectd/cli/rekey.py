"""``idiolectd rekey``: seals what is stored with the first of the configured keys, and makes keys."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idiolectd.cli.existing_store import require_store
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.help_sections import SectionedCommand
from idiolectd.cli.options import Options, common
from idiolectd.cli.output import put, put_json, say
from idiolectd.cli.progress import progress
from idiolectd.cli.running import run_async
from idiolectd.config import Config
from idiolectd.errors import StoreError
from idiolectd.log import redact
from idiolectd.policy import CLAIM_PATIENCE

if TYPE_CHECKING:
    from idiolectd.ports import SharedStore


@click.command(
    "rekey",
    cls=SectionedCommand,
    sections={
        "Examples": (
            ("idiolectd rekey --new-key /etc/idiolectd/store.key", "make a key; then name it in store.keys"),
            ("idiolectd rekey", "seal everything with the first of store.keys"),
            ("idiolectd check", "says with which keys the store is sealed"),
        ),
    },
)
@click.option("--new-key", metavar="FILE", help="Write a new random key to a new file, and nothing else.")
@common
@click.pass_obj
def rekey_command(options: Options, new_key: str | None) -> int:
    """Seal the stored tokens and DPoP keys with the first key of store.keys.

    To change keys: put the new one first and leave the old one below it, restart the daemon, and run this.
    Then the old one can go. The same seals a store that was clear. Everything keeps running meanwhile. It
    may be interrupted, and typed again.
    """
    if new_key is not None:
        _make_key(new_key, json=options.json)
        return ExitCode.DONE
    config = options.load_as_owner()
    if not config.store.keys:
        raise CommandFailed(
            ExitCode.USAGE,
            "store.keys names no key to seal with; make one with: idiolectd rekey --new-key FILE",
        )
    require_store(config)
    sealed, failed = run_async(partial(_rekey, config))
    key = config.store.keys[0].id
    if options.json:
        put_json({"key": key, "sealed": sealed, "failed": failed})
    else:
        put(f"sealed with {key}: {sealed} session{'' if sealed == 1 else 's'}")
    return ExitCode.FAILED if failed else ExitCode.DONE


def _make_key(name: str, *, json: bool) -> None:
    from idiolectd.store import write_new_key

    try:
        write_new_key(Path(name))
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"can't make {name}: {error.strerror}") from error
    if json:
        put_json({"file": name})
    else:
        put(f"made {name}; keep a copy of it elsewhere: without it every session needs a new login")


async def _rekey(config: Config) -> tuple[int, dict[str, str]]:
    """Seals everything; returns how many sessions are sealed, and why others could not be."""
    from idiolectd.store import open_configured_store

    sealed, failed = 0, dict[str, str]()
    async with open_configured_store(config.store) as store:
        with progress("sealing", await store.count()) as advance:
            async for page in store.pages():
                for did in page:
                    try:
                        sealed += await store.reseal(did)
                    except StoreError as error:
                        failed[did] = redact(str(error))
                        say(failed[did])
                    advance()
        failed |= await _reseal_spill(store)
    return sealed, failed


async def _reseal_spill(store: "SharedStore") -> dict[str, str]:
    """Seals tokens that wait in the second place; returns why some could not be."""
    failed: dict[str, str] = {}
    if store.spill is None:
        return failed
    for did in (await store.spill.survey()).dids:
        try:
            async with store.claim(did, patience=CLAIM_PATIENCE):
                await store.spill.reseal(did)
        except StoreError as error:
            failed[did] = redact(str(error))
            say(failed[did])
    return failed
