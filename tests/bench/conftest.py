"""The benchmarks need a C compiler; nothing else in the tests does."""

import pytest

from bench.endpoint import program
from bench.errors import NotMeasured


@pytest.fixture(autouse=True)
def compiled() -> None:
    try:
        program()
    except NotMeasured as missing:
        pytest.skip(str(missing))
