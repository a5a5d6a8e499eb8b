"""Many logins: what is read, how it is paced, what becomes of each account."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest
import trio
from trio.testing import MockClock

from idiolectd.cli.batch import LOGINS, PERIOD, BatchEntry, Pace, login_all, read_batch
from idiolectd.cli.credentials import Credentials
from idiolectd.cli.exits import CommandFailed
from idiolectd.parts import Parts
from tests.cli.conftest import Pds, Run
from tests.clock import START, VirtualClock
from tests.parts import configured, parts_over
from tests.simulator import Fault, Simulator, SimulatorTransport

URL = "https://pds.test"


def batch_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "accounts.txt"
    path.touch(0o600)
    path.write_text(text)
    return path


def test_lines(tmp_path: Path) -> None:
    """Lines with words and JSON lines may be mixed; empty ones and comments are left out."""
    text = """
# two forms
a.example pass-a
did:plc:b pass-b  https://pds.example
{"account": "c.example", "password": "with space", "pds_url": "https://pds.example"}
"""
    assert read_batch(batch_file(tmp_path, text)) == [
        Credentials("a.example", "pass-a"),
        Credentials("did:plc:b", "pass-b", "https://pds.example"),
        Credentials("c.example", "with space", "https://pds.example"),
    ]


def test_bad_lines(tmp_path: Path) -> None:
    """All bad lines are named by number, and nothing of them is shown."""
    text = "\n".join(
        [
            "secret",
            "a secret b c",
            "{secret",
            "[1]",
            '{"account": "a", "password": 3}',
            '{"account": "secret"}',
            "",
        ]
    )
    with pytest.raises(CommandFailed) as raised:
        read_batch(batch_file(tmp_path, text))
    found = str(raised.value).splitlines()
    assert [line.split(": ")[1] for line in found] == [f"line {n}" for n in (1, 2, 3, 4, 5, 6)]
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(Credentials("a", "secret"))


def test_file_open_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of passwords that others can read is worth a word."""
    path = batch_file(tmp_path, "a b")
    path.chmod(0o644)
    read_batch(path)
    assert "chmod 600" in capsys.readouterr().err


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is wrong usage."""
    with pytest.raises(CommandFailed, match="No such file"):
        read_batch(tmp_path / "missing")


def test_pace() -> None:
    """Never more than 30 logins begin within 5 minutes, and not one waits without need."""

    async def run() -> list[float]:
        pace = Pace()
        times = []
        for _ in range(2 * LOGINS + 1):
            await pace.wait_turn()
            times.append(anyio.current_time())
            await anyio.sleep(1)
        return times

    times = trio.run(run, clock=MockClock(autojump_threshold=0))
    gaps = [later - earlier for earlier, later in zip(times, times[LOGINS:], strict=False)]
    assert min(gaps) >= PERIOD
    assert times[LOGINS - 1] - times[0] < LOGINS + 1
    assert times[-1] - times[0] < 2 * PERIOD + 1


def parts_of(sim: Simulator, clock: VirtualClock) -> AbstractAsyncContextManager[Parts]:
    """The parts of a command, with a simulated network and a store in memory."""
    return parts_over(SimulatorTransport(sim), configured(URL, resolver=URL), clock=clock)


def logged_in(sim: Simulator, wanted: list[Credentials], clock: VirtualClock) -> list[BatchEntry]:
    async def run() -> list[BatchEntry]:
        async with parts_of(sim, clock) as parts:
            lines = await login_all(parts, wanted, show=False)
            assert await parts.store.list_dids() == sorted(
                line.did for line in lines if line.result == "logged_in" and line.did
            )
            return lines

    return trio.run(run, clock=MockClock(autojump_threshold=0))


def simulator() -> tuple[Simulator, VirtualClock]:
    clock = VirtualClock(runs=True)

    def now() -> float:
        try:
            return clock.now()
        except RuntimeError:  # before the loop runs
            return START

    return Simulator(URL, now=now), clock


def test_within_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    """A long batch on one PDS keeps below its limit by itself: no login is refused; it says why it waits."""
    sim, clock = simulator()
    sim.options.rate_limits = True
    wanted = []
    for number in range(2 * LOGINS):
        account = sim.add_account(f"u{number}.test", "pass-word")
        wanted.append(Credentials(account.handle, "pass-word", URL))
    lines = logged_in(sim, wanted, clock)
    assert {line.result for line in lines} == {"logged_in"}
    assert [line.account for line in lines] == [credentials.account for credentials in wanted]
    assert f"30 logins in 5 minutes are a PDS's limit: {URL} goes on in " in capsys.readouterr().err


def refusal(seconds: int, times: int | None) -> Fault:
    return Fault(
        "respond",
        "createSession",
        times=times,
        status=429,
        headers=[("retry-after", str(seconds)), ("content-type", "application/json")],
        body=b'{"error": "RateLimitExceeded", "message": "slow down"}',
    )


def test_waits_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that asks to wait is waited for, and the person is told."""
    sim, clock = simulator()
    sim.add_account("a.test", "pass-word")
    sim.faults.add(refusal(120, 1))
    (line,) = logged_in(sim, [Credentials("a.test", "pass-word", URL)], clock)
    assert line.result == "logged_in"
    assert "asks to wait 120 s" in capsys.readouterr().err


def test_does_not_wait_for_a_day() -> None:
    """A server that asks for hours ends its part of the batch; nothing more is sent to it."""
    sim, clock = simulator()
    for name in "ab":
        sim.add_account(f"{name}.test", "pass-word")
    sim.faults.add(refusal(86_400, None))
    lines = logged_in(sim, [Credentials(f"{name}.test", "pass-word", URL) for name in "ab"], clock)
    assert [line.result for line in lines] == ["try_later", "try_later"]
    assert sim.state.counters.faults == 1


def test_one_bad_account() -> None:
    """A wrong password fails its own account only."""
    sim, clock = simulator()
    for name in "ab":
        sim.add_account(f"{name}.test", "pass-word")
    wanted = [Credentials("a.test", "wrong", URL), Credentials("b.test", "pass-word")]
    lines = logged_in(sim, [*wanted, Credentials("nobody.test", "pass-word")], clock)
    assert [line.result for line in lines] == ["failed", "logged_in", "failed"]
    assert "wrong" not in repr(lines)


def test_resumes(run: Run, pds: Pds, tmp_path: Path, environ: dict[str, str]) -> None:
    """A second run logs in only whom the first one did not."""
    handles = [f"batch{number}.test" for number in range(3)]
    for handle in handles[:2]:
        pds.account(handle)
    path = batch_file(tmp_path, "".join(f"{handle} pass-word {pds.url}\n" for handle in handles))
    first = run("login", "--batch", str(path), "--json")
    assert first.code == 1
    assert [line["result"] for line in first.json] == ["logged_in", "logged_in", "failed"]
    assert "3 accounts: 2 logged_in, 0 skipped, 1 failed, 0 try_later" in first.err
    pds.account(handles[2])
    second = run("login", "--batch", str(path))
    assert second.code == 0
    assert second.out.splitlines()[:2] == [
        f"{handle}: skipped: has a living session" for handle in handles[:2]
    ]
    assert second.out.splitlines()[2] == f"{handles[2]}: logged_in"
    assert "pass-word" not in first.out + first.err + second.out + second.err


def test_from_standard_input(run_process: Run, pds: Pds) -> None:
    """- reads the batch from standard input."""
    account = pds.account("piped.test")
    line = json.dumps({"account": account["did"], "password": "pass-word"})
    done = run_process("login", "--batch", "-", "--json", stdin=line)
    assert (done.code, done.json[0]["result"]) == (0, "logged_in"), done.err


def test_batch_stands_alone(run: Run) -> None:
    """--batch with an account is wrong usage."""
    assert run("login", "--batch", "-", "a.test").code == 2
