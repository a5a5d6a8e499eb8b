"""Stops a forked child at each of its system calls: to kill it there, to fail the call, to write it down.

A small debugger (ptrace(2)). The child's work is a Python function of the parent, which has imported
everything already: a run takes a tenth of a second instead of the seconds of a new interpreter, so
that thousands of boundaries can be tried. All threads are followed, and the calls of all threads are
numbered in one sequence, from `begin` to `end` (or to the child's end), which the work calls itself.

For Linux on x86-64: failing a call means changing registers. It does not follow child processes.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture.forks import WALL, forked, leave
from tests.torture.syscalls import Call, call_name

# <sys/ptrace.h>
_TRACEME, _POKEUSER, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 6, 24, 0x4200, 0x420E
_TRACESYSGOOD, _TRACECLONE, _EXITKILL = 0x1, 0x8, 0x100000
_SYSCALL_STOP = signal.SIGTRAP | 0x80

# struct user_regs_struct: where a call's number, its result and its third argument are.
_ORIG_RAX, _RAX, _RDX = 15 * 8, 10 * 8, 12 * 8

# A process id that nobody has: asking for its process group has no effect, and can be seen.
_BEGIN, _END = 0x7FFFFF01, 0x7FFFFF02


class Kill:
    """The child is killed before the call is done."""


@dataclass(frozen=True)
class Fail:
    """The call returns this error.

    Attributes:
        error: its number.
        done: the call is done all the same.
    """

    error: int
    done: bool = False


@dataclass(frozen=True)
class Shorten:
    """The call is done with a third argument (a count of bytes) no larger than this."""

    count: int


Action = Kill | Fail | Shorten | None


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        killed: by us, before a call.
        code: the exit code otherwise; 0: the work returned.
        calls: how many calls there were between `begin` and the end.
    """

    killed: bool
    code: int
    calls: int


OnCall = Callable[[Call], Action]
OnDone = Callable[[Call, int], None]


def why_not() -> str | None:
    """The reason why nothing can be traced here; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the tracer knows the system calls of Linux on x86-64 only"
    try:
        ended = run(begin, lambda _call: None, timeout=10)
    except OSError as error:
        return f"ptrace is not permitted here: {error}"
    return None if ended.code == 0 else "ptrace is not permitted here"


def begin() -> None:
    """In the child: what follows is numbered."""
    with suppress(ProcessLookupError):
        os.getpgid(_BEGIN)


def end() -> None:
    """In the child: what follows is not."""
    with suppress(ProcessLookupError):
        os.getpgid(_END)


def run(
    work: Callable[[], None],
    on_call: OnCall,
    *,
    on_done: OnDone | None = None,
    timeout: float,
    log: Path | None = None,
) -> Ended:
    """Runs `work` in a forked child under the tracer.

    The calling process must have one thread only (a fork keeps no other), and no other children that
    end meanwhile.

    Args:
        work: what the child does; an exception is printed, and is exit code 1.
        on_call: decides about each call between `begin` and `end`.
        on_done: told each such call's result; negative: an error number.
        timeout: seconds.
        log: gets the child's standard error.

    Raises:
        TimeoutError: the child was killed because it took longer.
    """
    return forked(
        partial(_be_child, work),
        lambda pid: _Run(pid, on_call, on_done).follow(),
        timeout=timeout,
        log=log,
    )


def _be_child(work: Callable[[], None]) -> None:
    try:
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)  # the parent sets its options now
    except OSError:
        os._exit(1)
    leave(work)


class _Run:
    def __init__(self, pid: int, on_call: OnCall, on_done: OnDone | None) -> None:
        self._pid = pid
        self._on_call = on_call
        self._on_done = on_done
        self._known = {pid}
        self._open: dict[int, tuple[Call, Action]] = {}
        self._counting = False
        self._calls = 0
        self._killed = False

    def follow(self) -> Ended:
        _, status = os.waitpid(self._pid, WALL)
        if not os.WIFSTOPPED(status):
            return Ended(False, os.waitstatus_to_exitcode(status), 0)
        _ptrace(_SETOPTIONS, self._pid, 0, _TRACESYSGOOD | _TRACECLONE | _EXITKILL)
        self._resume(self._pid, 0)
        while True:
            tid, status = os.waitpid(-1, WALL)
            if os.WIFSTOPPED(status):
                self._stopped(tid, status)
            elif tid == self._pid:
                return Ended(self._killed, os.waitstatus_to_exitcode(status), self._calls)

    def _stopped(self, tid: int, status: int) -> None:
        received = os.WSTOPSIG(status)
        if received == _SYSCALL_STOP:
            self._at_call(tid)
            received = 0
        elif tid not in self._known or received == signal.SIGTRAP:
            self._known.add(tid)  # a new thread, or its parent telling of it
            received = 0
        if not self._killed:
            self._resume(tid, received)

    def _at_call(self, tid: int) -> None:
        info = ctypes.create_string_buffer(88)
        try:
            _ptrace(_GET_SYSCALL_INFO, tid, len(info), ctypes.addressof(info))
        except ProcessLookupError:
            return
        operation = info.raw[0]
        if operation == 1:
            number, *args = struct.unpack_from("=7Q", info.raw, 24)
            self._enter(tid, call_name(number), tuple(args))
        elif operation == 2:
            self._leave(tid, struct.unpack_from("=q", info.raw, 24)[0])

    def _enter(self, tid: int, name: str, args: tuple[int, ...]) -> None:
        if name == "getpgid" and args[0] in (_BEGIN, _END):
            self._counting = args[0] == _BEGIN
            return
        if not self._counting:
            return
        call = Call(self._calls, tid, name, args)
        self._calls += 1
        action = self._on_call(call)
        match action:
            case Kill():
                self._killed = True
                os.kill(self._pid, signal.SIGKILL)
                return
            case Fail(done=False):
                _ptrace(_POKEUSER, tid, _ORIG_RAX, 2**64 - 1)
            case Shorten(count):
                _ptrace(_POKEUSER, tid, _RDX, min(count, args[2]))
            case _:
                pass
        self._open[tid] = (call, action)

    def _leave(self, tid: int, result: int) -> None:
        call, action = self._open.pop(tid, (None, None))
        if call is None:
            return
        if isinstance(action, Fail):
            result = -action.error
            _ptrace(_POKEUSER, tid, _RAX, 2**64 + result)
        if self._on_done is not None:
            self._on_done(call, result)

    def _resume(self, tid: int, received: int) -> None:
        with suppress(ProcessLookupError):  # killed meanwhile
            _ptrace(_SYSCALL, tid, 0, received)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong)


def _ptrace(request: int, tid: int, address: int, data: int) -> int:
    ctypes.set_errno(0)
    found = int(_libc.ptrace(request, tid, address, data))
    code = ctypes.get_errno()
    if found == -1 and code:
        name = errno.errorcode.get(code, "")
        raise OSError(code, f"ptrace request {request:#x}: {name}")
    return found
