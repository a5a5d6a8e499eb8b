"""How long the machines run: short and repeatable, or with ``TORTURE=1`` long and new every time."""

import os

from hypothesis import HealthCheck, settings

TORTURE = os.environ.get("TORTURE") == "1"

# Nothing here is slow because of the data: the first example pays for imports, and a busy machine for others.
_CALM = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    print_blob=True,
    report_multiple_bugs=False,
)

# Failures of a short run must not depend on a folder that somebody else has: it is the same each time.
settings.register_profile("idiolectd-short", _CALM, derandomize=True, database=None)
settings.register_profile("idiolectd-torture", _CALM)


def runs(examples: int, steps: int = 50) -> settings:
    """The settings of one test or machine.

    Args:
        examples: of the short run; a long one makes fifty times as many.
        steps: of a machine, in one example; a long run makes twice as many.
    """
    chosen = settings.get_profile("idiolectd-torture" if TORTURE else "idiolectd-short")
    return settings(
        chosen,
        max_examples=examples * (50 if TORTURE else 1),
        stateful_step_count=steps * (2 if TORTURE else 1),
    )
