"""Runs the demo, shows it live, and fails if a figure is not as promised."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from idiolectd import OAuthSession, open_store
from tests.daemon_process import DaemonProcess, environment

TOKEN_LIFE = 20
CLIENTS = 4


def main() -> int:
    """Returns the exit code: 0 if everything was as promised."""
    parser = argparse.ArgumentParser(description="idiolectd on real traffic, on loopback")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long the clients call")
    parser.add_argument("--sessions", type=int, default=40)
    arguments = parser.parse_args()
    console = Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="idiolectd-demo-")))
        console.print(
            f"{arguments.sessions} sessions of both kinds, tokens of {TOKEN_LIFE} s, {CLIENTS} clients,"
            f" {arguments.seconds:.0f} s. The daemon's log: one line an event, summed up below."
        )
        started = stack.enter_context(_simulator(arguments.sessions))
        store_url = f"sqlite://{folder}/sessions.sqlite"
        anyio.run(_fill, store_url, started)
        daemon = stack.enter_context(DaemonProcess(environment(store_url), folder / "daemon.log"))
        clients = [stack.enter_context(_Client(store_url, number)) for number in range(CLIENTS)]
        _watch(console, arguments.seconds, started["url"], daemon, clients)
        for client in clients:
            client.stop()
        daemon_exit = daemon.stop()
        figures = _figures(_stats(started["url"]), daemon, clients)
        return _summary(console, figures, arguments.sessions, daemon, clients, daemon_exit)


@contextmanager
def _simulator(sessions: int) -> Iterator[dict[str, Any]]:
    oauth = sessions // 2
    command = [sys.executable, "-m", "tests.simulator", "--accounts", str(sessions)]
    command += ["--oauth", str(oauth), "--legacy", str(sessions - oauth)]
    command += ["--access-life", str(TOKEN_LIFE), "--legacy-access-life", str(TOKEN_LIFE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


async def _fill(store_url: str, started: dict[str, Any]) -> None:
    async with open_store(store_url) as store:
        for account in started["accounts"]:
            for record in account["oauth"] + account["legacy"]:
                await store.save(OAuthSession.from_json(json.dumps(record)))


class _Client:
    """One client process, and the last line it printed."""

    def __init__(self, store_url: str, number: int) -> None:
        self.counts = {"calls": 0, "reread": 0, "failed": 0, "last_failure": ""}
        backend = ("asyncio", "trio")[number % 2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.demo.client", store_url, "--backend", backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.counts = json.loads(line)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.exit_code = self._process.wait(30)
        self._reader.join(5)


def _stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/_sim/stats", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _watch(console: Console, seconds: float, url: str, daemon: DaemonProcess, clients: list[_Client]) -> None:
    end = time.monotonic() + seconds
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        while (left := end - time.monotonic()) > 0:
            live.update(_table(left, _figures(_stats(url), daemon, clients)))
            time.sleep(min(1.0, left))


def _figures(stats: dict[str, Any], daemon: DaemonProcess, clients: list[_Client]) -> dict[str, Any]:
    events = daemon.events()
    late = sorted(event.get("lateness", 0.0) for event in events if event["event"] == "session.refreshed")
    lost = [event for event in events if event["event"] == "session.relogin_required"]
    return {
        "refreshes": len(late),
        "lateness, median (s)": round(statistics.median(late), 3) if late else 0.0,
        "lateness, worst (s)": late[-1] if late else 0.0,
        "client calls": sum(client.counts["calls"] for client in clients),
        "re-reads after a 401": sum(client.counts["reread"] for client in clients),
        "calls still failing": sum(client.counts["failed"] for client in clients),
        "replays seen by the server": stats["replays_seen"],
        "sessions lost": len(lost) + stats["sessions_killed"],
    }


def _table(left: float, figures: dict[str, Any]) -> Table:
    table = Table(title=f"idiolectd demo, {left:.0f} s to go", title_justify="left")
    table.add_column("figure")
    table.add_column("now", justify="right")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table


def _summary(
    console: Console,
    figures: dict[str, Any],
    sessions: int,
    daemon: DaemonProcess,
    clients: list[_Client],
    daemon_exit: int,
) -> int:
    problems = [f"{name}: {figures[name]}, expected 0" for name in list(figures)[-3:] if figures[name]]
    problems += [str(client.counts["last_failure"]) for client in clients if client.counts["last_failure"]]
    problems += [f"a client exited {client.exit_code}" for client in clients if client.exit_code]
    if figures["refreshes"] < 2 * sessions:
        problems.append("too few refreshes")
    if not figures["client calls"]:
        problems.append("the clients never called")
    if daemon_exit:
        problems.append(f"the daemon exited {daemon_exit}; its log ends:\n{daemon.log.read_text()[-2000:]}")
    for name, value in figures.items():
        console.print(f"{name:28} {value}", highlight=False)
    for problem in problems:
        console.print(f"NOT AS PROMISED: {problem}", style="red", highlight=False)
    console.print("not as promised" if problems else "as promised", style="red" if problems else "green")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
