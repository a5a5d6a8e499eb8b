"""Bugs in what all sessions share: the one thread, the threads beside it, the locks."""

from tests.torture.plants.plant import Edit, Plant

_LINEAR = "tests/core/test_linear.py::test_four_times_the_text_takes_four_times_the_work"

PLANTS = (
    Plant(
        "server's text searched from each place",
        7,
        "a long error text stops the daemon for a minute",
        (
            Edit("http", "without(_cut(text, secrets), secrets)", "without(text, secrets)"),
            Edit("http", 'r"eyJ[\\w-]{8,}(?:\\.[\\w-]*)*"', 'r"eyJ[\\w-]*\\.[\\w-]*(\\.[\\w-]*)?"'),
        ),
        (f"{_LINEAR}[0]",),
        short=True,
    ),
    Plant(
        "log's masks search from each place",
        7,
        "a long text in an event stops the daemon for a minute",
        (Edit("log", 'r"\\beyJ[\\w-]{8,}(?:\\.[\\w-]*)*"', 'r"eyJ[\\w-]*\\.[\\w-]*"'),),
        (f"{_LINEAR}[3]",),
    ),
)
