"""What one part of a run counted, and what it found that is not as promised."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Findings:
    """Figures and problems of one run; of several of them, a table is made.

    Attributes:
        counts: figures by name; one that was never counted is 0.
        problems: lines for a person.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, promised: object) -> None:
        """Notes a problem if they differ."""
        if found != promised:
            self.problems.append(f"{what}: {found}, promised {promised}")
