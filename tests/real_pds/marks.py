"""The marks of whole modules that need the real PDS."""

import pytest

from tests.real_pds.harness import why_not


def needs_pds(*, seconds: float, besides: str | None = None) -> list[pytest.MarkDecorator]:
    """The `pytestmark` of such a module.

    Args:
        seconds: for one test.
        besides: why something else that its tests need is not here; None: it is, or they need nothing.
    """
    reason = why_not() or besides
    return [
        pytest.mark.real_pds,
        pytest.mark.slow,
        pytest.mark.timeout(seconds),
        pytest.mark.skipif(reason is not None, reason=str(reason)),
    ]
