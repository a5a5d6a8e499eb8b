"""Bugs in who may send, and write to the disk, at a time."""

from tests.torture.plants.plant import Edit, Plant

_CLAIMS = "tests/store/test_claims.py::"

PLANTS = (
    Plant(
        "write lock not taken",
        4,
        "two writers read, and both write",
        (
            Edit(
                "store",
                '        async with self._hold("write lock", _WRITE_LOCK, WRITE_PATIENCE, _WRITE_PAUSE):\n            yield\n',
                "        yield\n",
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
                "store",
                "            held = await self._take(what, byte, deadline, longest_pause)\n"
                "            try:\n"
                "                yield\n"
                "            finally:\n"
                "                held.release()\n",
                "            yield\n",
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
            Edit(
                "store/files/store",
                "    root = Path(os.path.realpath(path))\n",
                "    root = Path(path).absolute()\n",
            ),
            Edit(
                "store/files/store",
                "        self._locks = Locks(self.runtime_dir)\n",
                "        self._locks = Locks(root.with_name(root.name + '.locks'))\n",
            ),
        ),
        (_CLAIMS + "test_a_symbolic_link_makes_no_second_claim[trio-files]",),
    ),
    Plant(
        "forked child keeps the claim",
        1,
        "a session is stuck when the daemon dies before its child",
        (
            Edit(
                "store",
                "    for lock in _held:\n        os.close(lock._fd)  # noqa: SLF001 (this module's own class)\n",
                "",
            ),
        ),
        (_CLAIMS + "test_a_forked_child_does_not_keep_the_claim[trio-files]",),
    ),
    Plant(
        "daemon lock not taken",
        1,
        "two daemons run on one store",
        (
            Edit(
                "daemon",
                "        lock = try_exclusive(folder / PRESENCE_LOCK)\n",
                "        lock = contextlib.nullcontext()\n",
            ),
        ),
        ("tests/daemon/test_presence.py::test_a_store_has_one_daemon",),
    ),
    Plant(
        "closing a lock file raises",
        5,
        "a failing disk hides the outcome of a refresh",
        (
            Edit(
                "store/locks/ofd",
                "            with contextlib.suppress(OSError):\n                os.close(self._fd)\n",
                "            os.close(self._fd)\n",
            ),
        ),
        (_CLAIMS + "test_a_lock_file_that_can_not_be_closed_hides_no_outcome",),
    ),
)
