"""Promise 6, promise 7 and the policy, against every kind of misbehaviour in the table."""

import pytest
import trio
import trio.testing

from idiolectd.session import Kind
from tests.servers.cases import CASES, Case
from tests.servers.trial import HEADER, try_out

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LINES = [pytest.param(case, kind, id=f"{kind}: {case.name}") for case in CASES for kind in case.kinds]


@pytest.mark.parametrize(("case", "kind"), LINES)
def test_no_session_is_lost_and_no_server_is_pestered(case: Case, kind: Kind) -> None:
    """Each line of the table holds: the state meanwhile, the requests, and the session afterwards."""
    row = trio.run(try_out, case, kind, clock=trio.testing.MockClock(autojump_threshold=0))
    print(f"{HEADER}\n{row}")
    assert row.problems == []
