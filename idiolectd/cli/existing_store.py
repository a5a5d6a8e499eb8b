"""Requires that a command's store exists: a misspelt path must not create an empty store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.output import say
from idiolectd.cli.places import named_store
from idiolectd.config import Config
from idiolectd.store_url import parse_store_url

if TYPE_CHECKING:
    from idiolectd.ports import SharedStore


@asynccontextmanager
async def open_to_read(config: Config) -> "AsyncIterator[SharedStore]":
    """Opens the store for reading; if there is none, reports that and opens an empty one in memory."""
    from idiolectd.store import open_configured_store

    url = config.store.url
    if is_missing(url):
        say(f"there is no store at {named_store(config)} yet; idiolectd login makes one")
        url = "memory:"
    async with open_configured_store(replace(config.store, url=url), looking=True) as opened:
        yield opened


def require_store(config: Config) -> None:
    """Raises `CommandFailed` if nothing exists at the store's path."""
    if is_missing(config.store.url):
        raise CommandFailed(
            ExitCode.FAILED,
            f"there is no store at {named_store(config)}; idiolectd login makes one, or name another: --store",
        )


def is_missing(url: str) -> bool:
    """Returns whether nothing exists at the store's path; False too if the path can't be examined."""
    place = parse_store_url(url)
    try:
        place.path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # opening the store reports what is wrong
        return False
    return False
