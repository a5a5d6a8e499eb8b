"""Fixtures of all tests, and their order."""

import atexit
import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# A busy machine draws and runs examples slowly; that is no fault of a test.
settings.register_profile("idiolectd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("idiolectd")

# Where stores of this user choose to spill (`idiolectd.store.spill_places`): not in his own home.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="idiolectd-tests-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

# A shell that starts the tests in the background has them ignore Ctrl-C, and every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both."""
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: at the end, no process waits for one that has just begun another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
