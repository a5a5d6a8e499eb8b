"""Bugs in who may send, and write to the disk, at a time."""

from tests.torture.plants.plant import Edit, Plant

_CLAIMS = "tests/store/test_claims.py::"
_LINE = "tests/store/test_line.py::"
_REMOVED = "tests/store/test_removed_folders.py::"

PLANTS = (
    Plant(
        "write lock not taken",
        4,
        "two writers read, and both write",
        (
            Edit(
                "store",
                "Locks.writing",
                'async with self._hold("write lock", _WRITE_LOCK, WRITE_PATIENCE, has_turn=True, first=first, restarts=True):\n'
                "yield",
                "yield",
            ),
        ),
        (_CLAIMS + "test_the_write_lock_has_a_deadline",),
    ),
    Plant(
        "claim within the process only",
        1,
        "two processes send one token",
        (
            Edit(
                "store", "Locks._hold", "await self._take(what, byte, deadline, held, has_turn=has_turn)", ""
            ),
        ),
        (_CLAIMS + "test_a_claim_excludes_other_processes_until_its_holder_is_killed[trio-files]",),
        short=True,
    ),
    Plant(
        "claim by the path as given",
        1,
        "a symbolic link makes a second claim",
        (
            Edit("store", "_real_folder", "(os.path.realpath(path, strict=not make))", "(path).absolute()"),
            Edit(
                "store",
                "FilesystemOAuthTokenStore.__init__",
                "Locks(self.runtime_dir,",
                "Locks(root.with_name(root.name + '.locks'),",
            ),
        ),
        (_CLAIMS + "test_a_symbolic_link_makes_no_second_claim[trio-files]",),
    ),
    Plant(
        "forked child keeps the claim",
        1,
        "a session is stuck when the daemon dies before its child",
        (Edit("store", "_close_in_child", "for fd in {lock.fd for lock in _held}:\nos.close(fd)", ""),),
        (_CLAIMS + "test_a_forked_child_does_not_keep_the_claim[trio-files]",),
    ),
    Plant(
        "daemon lock not taken",
        1,
        "two daemons run on one store",
        (Edit("daemon", "_taken", "/ PRESENCE_LOCK", "/ str(os.urandom(8).hex())"),),
        ("tests/daemon/test_presence.py::test_a_store_has_one_daemon",),
    ),
    Plant(
        "removed lock folder stays away",
        11,
        "no session is refreshed any more, and nobody says so",
        (Edit("store", "Locks._take", "await in_thread(self._restore_folder)", "raise"),),
        (_REMOVED + "test_a_store_works_on_when_its_folder_was_removed[trio-sqlite]",),
    ),
    Plant(
        "removed state folder stays away",
        11,
        "no session is refreshed any more, and nobody says so",
        (Edit("store", "FolderWriter.apply", "answer.errno in _TRY_AGAIN", "answer.errno is None"),),
        (_REMOVED + "test_a_store_works_on_when_its_folder_was_removed[trio-files]",),
    ),
    Plant(
        "claim on a removed file counts",
        1,
        "two processes send one token after their lock file was removed",
        (
            Edit(
                "store",
                "Locks.confirm_claim",
                "and not await self._in_place.run(locks[-1].is_current)",
                "is None",
            ),
        ),
        (_REMOVED + "test_who_lost_the_claim_with_its_file_sends_nothing[trio-files]",),
    ),
    Plant(
        "daemon's removed lock not taken again",
        1,
        "a second daemon starts",
        (Edit("daemon", "SingleInstance.keep", "self._lock.is_current()", "self._lock"),),
        (_REMOVED + "test_the_daemon_keeps_its_place_when_its_lock_is_removed",),
    ),
    Plant(
        "closing a lock file raises",
        5,
        "a failing disk hides the outcome of a refresh",
        (
            Edit(
                "store",
                "HeldLock.release",
                "with contextlib.suppress(OSError):\nself._description.close_if_unused",
                "self._description.close_if_unused",
            ),
        ),
        (_CLAIMS + "test_a_lock_file_that_can_not_be_closed_hides_no_outcome",),
    ),
    Plant(
        "a fork waits for its own thread",
        7,
        "a signal handler that forks hangs the program",
        (Edit("store/locks/ofd", "", "threading.RLock", "threading.Lock"),),
        ("tests/store/test_loops.py::test_a_signal_handler_that_forks_in_the_middle",),
    ),
    Plant(
        "one queue for all event loops",
        7,
        "a store that two event loops use hangs one of them",
        (Edit("store", "Queues.hold", "running_loop()", "running_loop.__module__"),),
        ("tests/store/test_loops.py::test_one_open_store_in_two_loops[files-asyncio-asyncio]",),
    ),
    Plant(
        "a database used from another loop",
        7,
        "whoever does so waits for ever",
        (
            Edit(
                "store",
                "SqliteOAuthTokenStore._check_loop",
                "self._opened_in != (running_loop(), os.getpid())",
                "not self._opened_in",
            ),
        ),
        (
            "tests/store/test_loops.py::test_one_open_store_in_two_loops[sqlite-asyncio-asyncio]",
            "tests/store/test_loops.py::test_an_open_store_in_a_forked_child[sqlite-asyncio]",
        ),
    ),
    Plant(
        "waiters poll",
        7,
        "of a crowd that writes, some never get the lock",
        (Edit("store", "", "_MOST_THREADS = 64", "_MOST_THREADS = 0"),),
        (_LINE + "test_the_write_lock_is_given_in_the_order_of_asking[trio]",),
    ),
    Plant(
        "nobody looks for himself",
        7,
        "one stopped process keeps all others from writing",
        (Edit("store", "LockWaiters.take", "and not await self._stays_free(byte):", ":"),),
        (_LINE + "test_a_stopped_process_in_line_keeps_nobody_waiting[trio-files]",),
    ),
    Plant(
        "who left the line takes the lock",
        7,
        "a session is held by a process that has given up on it",
        (Edit("store", "_WaitingThread._wait_and_keep", "if self._is_wanted:\nself", "self"),),
        (_LINE + "test_who_left_the_line_takes_nothing[trio]",),
    ),
)
