"""Measures, and the figures they give: each measure is a function that is called once a round."""

import contextlib
import statistics
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import NotMeasured

# The unit of a figure that compares two others of the same round.
RATIO = "times"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: how often each measure is repeated; a measure may allow itself fewer.
        warm: refreshes before any is counted: by then what is under way at once was under way twice.
        refreshes: of the daemon, a round; slow peers do fewer.
        sessions: the sizes of the stores whose start and commands are measured.
        requests: of a client, a round.
        idle: seconds that an idle daemon is watched.
        patience: seconds after which a start that is not finished is given up.
        days: the numbers of sessions whose day is simulated.
        crowd: sessions that become due within a minute.
    """

    rounds: int = 5
    warm: int = 256
    refreshes: int = 3000
    sessions: Sequence[int] = (100_000, 1_000_000)
    requests: int = 2000
    idle: float = 60.0
    patience: float = 900.0
    days: Sequence[int] = (100_000,)
    crowd: int = 100_000


QUICK = Size(
    rounds=1, refreshes=160, sessions=(1000,), requests=200, idle=5.0, patience=60.0, days=(1000,), crowd=1000
)


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, in one round.

    Attributes:
        subject: who or what did it.
        quantity: what was measured.
        value: how much of it, in `unit`.
        unit: as in ``ms``.
    """

    subject: str
    quantity: str
    value: float
    unit: str


@dataclass(frozen=True)
class Goal:
    """What the median of a figure must reach: at most, or at least."""

    subject: str
    quantity: str
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"

    def is_reached(self, value: float) -> bool:
        """Whether a median is good enough."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


@dataclass
class Workshop:
    """What a run has: how much is measured, and where.

    Attributes:
        size: how much.
        folder: for stores; on the file system whose speed counts.
        missing: what could not be measured, and why.
        failed: rounds that went wrong, and why.
        look: seconds that the daemon needs to look at a new session, as was last seen.
    """

    size: Size
    folder: Path
    missing: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    look: float = 0.012

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is removed afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)


@dataclass(frozen=True)
class Measure:
    """Something to measure.

    Attributes:
        name: what the command line calls it.
        title: what the report calls it.
        text: what is done, for a reader of the report.
        run: does one round of it.
        goals: what it must reach.
        rounds: how many rounds it needs at most.
        plot: the quantity that is drawn, if any.
        limits: what keeps it from its goals, for a reader of the report; as it was when last looked into.
    """

    name: str
    title: str
    text: str
    run: Callable[[Workshop], Iterable[Figure]]
    goals: Sequence[Goal] = ()
    rounds: int = 1_000_000
    plot: str | None = None
    limits: str = ""


@dataclass(frozen=True)
class Series:
    """The figures of one kind from all rounds.

    Attributes:
        values: one a round.
    """

    subject: str
    quantity: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


def series(figures: Iterable[Figure]) -> list[Series]:
    """Puts together what belongs together, in the order in which it first came."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for figure in figures:
        found.setdefault((figure.subject, figure.quantity, figure.unit), []).append(figure.value)
    return [Series(*kind, values) for kind, values in found.items()]


def measure(measure: Measure, workshop: Workshop, told: Callable[[str], None]) -> list[Series]:
    """Runs all rounds of a measure; what this machine can't do is told and left out."""
    figures: list[Figure] = []
    rounds = min(measure.rounds, workshop.size.rounds)
    for number in range(rounds):
        told(f"{measure.name}: round {number + 1} of {rounds}")
        try:
            for figure in measure.run(workshop):
                told(f"  {figure.subject}: {figure.quantity} {figure.value:.4g} {figure.unit}")
                figures.append(figure)
        except NotMeasured as missing:
            workshop.missing[measure.name] = str(missing)
            told(f"  not measured: {missing}")
            break
        except Exception as error:  # noqa: BLE001 - this round's; the others are worth having all the same
            workshop.failed.append(f"{measure.name}, round {number + 1}: {type(error).__name__}: {error}")
            told(f"  FAILED: {''.join(traceback.format_exception(error))}")
    return series(figures)
