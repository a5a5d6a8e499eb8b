"""What commands have done reaches the daemon's log: once, in order, bounded, and it holds up nobody."""

import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from idiolectd.events import SessionCommand
from idiolectd.store.command_journal import JOURNAL, note_command, take_commands

DONE = SessionCommand(
    did="did:plc:a", command="pause", result="done", user="alice", pid=7, at="2026-11-28T18:51:36Z"
)


def test_each_is_taken_once_and_in_order(tmp_path: Path) -> None:
    """What is known of the session comes along; the file is closed to others."""
    named = replace(DONE, command="login", handle="alice.example", kind="dpop")
    note_command(tmp_path, DONE)
    note_command(tmp_path, named)
    assert stat.S_IMODE((tmp_path / JOURNAL).stat().st_mode) == 0o600
    assert take_commands(tmp_path) == [DONE, named]
    assert take_commands(tmp_path) == []


def test_no_place_is_no_failure(tmp_path: Path) -> None:
    """A store in memory, or a folder that is gone, holds no journal."""
    for folder in (None, tmp_path / "gone"):
        note_command(folder, DONE)
        assert take_commands(folder) == []


def test_it_is_bounded(tmp_path: Path) -> None:
    """While no daemon runs the oldest lines go."""
    for number in range(1500):
        note_command(tmp_path, replace(DONE, pid=number))
    assert (tmp_path / JOURNAL).stat().st_size <= 64 * 1024
    pids = [event.pid for event in take_commands(tmp_path)]
    assert pids == list(range(pids[0], 1500))
    assert len(pids) > 200


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each line is whole, whoever else writes and takes."""
    taken = []
    with ThreadPoolExecutor(4) as pool:
        wanted = [pool.submit(note_command, tmp_path, replace(DONE, pid=number)) for number in range(100)]
        while not all(each.done() for each in wanted):
            taken += take_commands(tmp_path)
    taken += take_commands(tmp_path)
    assert sorted(event.pid for event in taken) == list(range(100))


def test_torn_and_newer_lines_are_left_out(tmp_path: Path) -> None:
    """What a crash or a newer program has left does not hide the others."""
    (tmp_path / JOURNAL).write_text('{"did": "did:plc:a", "comm\n[]\n{"new": 1}\n' + "[" * 5000 + "\n")
    note_command(tmp_path, DONE)
    assert take_commands(tmp_path) == [DONE]


def test_a_held_journal_holds_up_nobody(tmp_path: Path) -> None:
    """A program that hangs in it: the command goes on without its line, the daemon takes it later."""
    note_command(tmp_path, DONE)
    descriptor = os.open(tmp_path / JOURNAL, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert take_commands(tmp_path) == []
    note_command(tmp_path, DONE)
    os.close(descriptor)
    assert take_commands(tmp_path) == [DONE]
