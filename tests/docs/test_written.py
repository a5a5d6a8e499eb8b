"""What is in docs is what the code says now."""

import pytest

from tests.docs import FOLDER, WRITTEN


@pytest.mark.parametrize("name", WRITTEN)
def test_written_documents(name: str) -> None:
    """If this fails: `make documents`, and look at the difference."""
    assert (FOLDER / name).read_text() == WRITTEN[name]()
