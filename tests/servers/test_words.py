"""The words of other servers, before the whole house: what is dead is named, what passes costs nothing.

The sessions of one test are one server's; to each it speaks another server's words.
"""

import anyio
import pytest
import trio.testing

from idiolectd.session import Kind, OAuthSession
from idiolectd.state import State
from tests.servers.house import House, house
from tests.servers.traffic import REFRESH_PATHS
from tests.simulator import Fault, Request, Words
from tests.simulator.words import BOTH, CLIENT, DEAD, PASSING

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LIFE = 3600.0

# Longer than a fault that passes: a locked database, a restart; shorter than `refresh.confirm`.
FAULT = 100.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def spoken(h: House, words: Words, session: OAuthSession) -> Fault:
    """The server refuses every refresh of a session in these words."""

    def match(request: Request) -> bool:
        return request.path in REFRESH_PATHS and h.sim.did_of(request) == session.did

    return h.sim.faults.add(words.fault(match))


async def wait_heard(fault: Fault) -> None:
    """Returns once they were."""
    while fault.hits == 0:
        await anyio.sleep(1)


@pytest.mark.parametrize("kind", BOTH)
async def test_a_dead_session_is_named(kind: Kind) -> None:
    """Not before two minutes, soon after its access token has ended at the latest, with the server's words."""
    table = [words for words in DEAD if kind in words.kinds]
    wrong = []
    async with house(access_life=LIFE, legacy_access_life=LIFE) as h:
        sessions = [await h.login(kind=kind) for _ in table]
        heard = []
        for words, session in zip(table, sessions, strict=True):
            h.sim.revoke_sessions(session.did)
            heard.append(spoken(h, words, session))

        async def is_named_too_soon(number: int) -> None:
            await wait_heard(heard[number])
            await anyio.sleep(118)
            state = (await h.entry(sessions[number].did)).state
            if (state.state, state.refusals > 0) != (State.RETRYING, True):
                wrong.append((table[number].name, "two minutes later", state))

        async with h.running(), anyio.create_task_group() as tasks:
            for number in range(len(table)):
                tasks.start_soon(is_named_too_soon, number)
            await anyio.sleep(LIFE + 300)
        for words, session, fault in zip(table, sessions, heard, strict=True):
            state = (await h.entry(session.did)).state
            message = "" if state.last_error is None else state.last_error.message
            good = (state.state, state.cause) == (State.RELOGIN_REQUIRED, words.cause)
            if not good or not message.startswith(str(words.status)) or fault.hits > 30:
                wrong.append((words.name, f"heard {fault.hits} times", state))
        assert wrong == []
        assert h.events.names.count("session.relogin_required") == len(table)


@pytest.mark.parametrize("kind", BOTH)
async def test_a_fault_that_passes_ends_nothing(kind: Kind) -> None:
    """The same words, said of living sessions while something is wrong: none is given up, all live on."""
    table = [words for words in (*DEAD, *CLIENT) if kind in words.kinds]
    async with house(access_life=LIFE, legacy_access_life=LIFE) as h:
        sessions = [await h.login(kind=kind) for _ in table]

        async def suffer(words: Words, session: OAuthSession) -> None:
            fault = spoken(h, words, session)
            await wait_heard(fault)
            await anyio.sleep(FAULT)
            h.sim.faults.remove(fault)

        async with h.running(), anyio.create_task_group() as tasks:
            for words, session in zip(table, sessions, strict=True):
                tasks.start_soon(suffer, words, session)
            await anyio.sleep(2 * LIFE)
        wrong = []
        for words, session in zip(table, sessions, strict=True):
            entry = await h.entry(session.did)
            assert entry.session is not None
            fresh = (entry.state.state, entry.state.refusals) == (State.FRESH, 0)
            if not (fresh and h.works(entry.session)):
                wrong.append((words.name, entry.state))
        assert wrong == []
        assert not {"session.relogin_required", "session.suspended"} & set(h.events.names)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        pytest.param(words, kind, id=f"{kind}: {words.name}")
        for words in (*CLIENT, *PASSING)
        for kind in words.kinds
    ],
)
async def test_what_says_nothing_of_the_session_never_ends_it(words: Words, kind: Kind) -> None:
    """Long after its access token has ended; then it lives."""
    async with house(access_life=LIFE, legacy_access_life=LIFE) as h:
        session = await h.login(kind=kind)
        heard = spoken(h, words, session)
        async with h.running():
            await wait_heard(heard)
            await anyio.sleep(LIFE)
            state = (await h.entry(session.did)).state
            expected = {"client": {State.SUSPENDED}, "passing": {State.RETRYING, State.AMBIGUOUS}}
            assert state.state in expected[words.meaning]
            h.sim.faults.clear()
            await anyio.sleep(4000)
        entry = await h.entry(session.did)
        assert entry.session is not None
        assert entry.state.state is State.FRESH
        assert h.works(entry.session)
