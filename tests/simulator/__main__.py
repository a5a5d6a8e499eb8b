"""``python -m tests.simulator``: a simulator on a socket, described by one JSON line on stdout.

Does: serve until SIGTERM, SIGINT, or the end of standard input.
Does not: read standard input for anything else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import threading
from dataclasses import fields
from typing import Any

import anyio

from tests.simulator.admin import seed
from tests.simulator.core import Simulator
from tests.simulator.server import serve
from tests.simulator.state import Options


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; every field of `Options` is an argument too."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=1)
    parser.add_argument(
        "--oauth", type=int, help="how many of the accounts get an OAuth session (default: all)"
    )
    parser.add_argument(
        "--legacy", type=int, default=0, help="how many more accounts get an app-password session"
    )
    parser.add_argument("--seed", type=int, help="make DIDs, tokens and keys repeatable")
    parser.add_argument(
        "--entryway", action="store_true", help="put the authorization server on a port of its own"
    )
    parser.add_argument("--backend", choices=("trio", "asyncio"), default="trio")
    for option in fields(Options):
        name = "--" + option.name.replace("_", "-")
        if isinstance(option.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=option.default)
        else:
            parser.add_argument(name, type=float, default=option.default)
    return parser.parse_args(arguments)


async def main(args: argparse.Namespace) -> None:
    """Serve as the arguments say."""
    options = {option.name: getattr(args, option.name) for option in fields(Options)}
    sim = Simulator(seed=args.seed, **options)
    async with anyio.create_task_group() as group:
        await group.start(_until_signal, group.cancel_scope)
        if args.entryway:
            await _start(group, sim, host=args.host, role="issuer")
            url = await _start(group, sim, host=args.host, port=args.port, role="pds")
        else:
            url = await _start(group, sim, host=args.host, port=args.port)
        line = {"url": url, "issuer": sim.issuer, "plc": url, "accounts": _accounts(sim, args)}
        print(json.dumps(line), flush=True)
        _stop_with_stdin()


async def _start(group: anyio.abc.TaskGroup, sim: Simulator, **how: Any) -> str:
    async def run(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        await serve(sim, task_status=task_status, **how)

    return str(await group.start(run))


def _accounts(sim: Simulator, args: argparse.Namespace) -> list[dict[str, Any]]:
    oauth = args.accounts if args.oauth is None else args.oauth
    total = max(args.accounts, oauth) + args.legacy
    return [
        seed(sim, f"user{i}.test", f"password{i}", oauth=int(i < oauth), legacy=int(i >= total - args.legacy))
        for i in range(total)
    ]


async def _until_signal(
    scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return


def _stop_with_stdin() -> None:
    """Stop when whoever started us is gone; /dev/null (a shell's background job) says nothing about that."""
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0):
        threading.Thread(target=_read_to_end, daemon=True).start()


def _read_to_end() -> None:
    while os.read(0, 65536):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    parsed = parse()
    anyio.run(main, parsed, backend=parsed.backend)
