"""The torture machine: tries to break the promises, and counts.

Each part is a program (``python -m tests.torture.PART [--full] [--seed N]``) that prints a table of
what it did and what came of it, and exits 1 if a figure is not as promised. Its short version is
also a test. Everything listens on loopback; every part ends the processes that it started.

The parts, by what they do to the machine or the program:

* `boundaries`: SIGKILL before each system call of a refresh.
* `io_errors`: an error, or half a write, from each file operation of a refresh.
* `powercut`: what a disk may hold after the current failed, from a recording of one commit.
* `full_disk`: a file system that is full, and one that becomes read-only, under the running daemon.
* `kills`: the daemon killed, frozen and stopped at random moments, and started again.
* `crowd`: many processes on the same sessions at the same moment.
* `proxy`: answers that break off, come late, or never, at every byte.
* `real_faults`: that proxy in front of the real PDS.
* `locked`: the real PDS with its database locked, when it calls good tokens invalid.
* `planted`: bugs planted in a copy of the program, each of which a test must catch.
"""
