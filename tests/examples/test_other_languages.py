"""The readers in `examples/` in other languages, each as a process: no call fails through a hundred rotations."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from idiolectd.session import OAuthSession
from idiolectd.store import Standing, encode_entry, make_view
from tests import node
from tests.simulator import Simulator, serve
from tests.simulator.oauth import rotate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first compilation on a busy machine

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
VECTORS = ROOT / "docs" / "vectors.json"
ROTATIONS = 100

# Where Debian's packages librust-*-dev put their sources.
CRATES = Path("/usr/share/cargo/registry")

Command = Sequence[str | Path]
Build = Callable[[Path], Command]


def _checked(*command: str | Path, at: Path, **env: str) -> None:
    variables = {**os.environ, "VECTORS": str(VECTORS), **env}
    done = subprocess.run(command, cwd=at, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build_node(name: str) -> Build:
    """A program on Node, its reader compared with the vectors."""

    def build(folder: Path) -> Command:
        program = node.node()
        shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True)
        shutil.copy(Path(__file__).with_name("vectors.mjs"), folder)
        (folder / "node_modules").symlink_to(node.MODULES)
        _checked(program, "vectors.mjs", VECTORS, at=folder)
        return program, folder / name

    return build


def build_go(folder: Path) -> Command:
    """The program in Go, compiled; its tests compare it with the vectors."""
    if shutil.which("go") is None:
        pytest.skip("no Go here (Debian: apt install golang-go)")
    shutil.copytree(EXAMPLES / "go", folder, dirs_exist_ok=True)
    env = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    _checked("go", "test", ".", at=folder, **env)
    _checked("go", "build", "-o", "session", ".", at=folder, **env)
    return (folder / "session",)


def build_rust(folder: Path) -> Command:
    """The program in Rust, compiled with Debian's crates; its tests compare it with the vectors."""
    if shutil.which("cargo") is None or any(
        not list(CRATES.glob(f"{crate}-[0-9]*")) for crate in ("base64", "ring", "serde_json", "ureq")
    ):
        pytest.skip("no Rust here (Debian: cargo and librust-{base64,ring,serde-json,ureq}-dev)")
    shutil.copytree(EXAMPLES / "rust", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target"))
    (folder / ".cargo").mkdir()
    source = f'[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "{CRATES}"\n'
    (folder / ".cargo" / "config.toml").write_text(source)
    for what in ("test", "build"):
        _checked("cargo", what, "--offline", "--quiet", at=folder, CARGO_TARGET_DIR=str(folder / "target"))
    return (folder / "target" / "debug" / "session",)


BUILDS = {
    "node, @atproto/api": build_node("atproto_agent.mjs"),
    "node, @atcute/client": build_node("atcute_client.mjs"),
    "go": build_go,
    "rust": build_rust,
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    made = Simulator()
    async with anyio.create_task_group() as tg:
        await tg.start(serve, made)
        yield made
        tg.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("language", BUILDS)
async def test_no_call_fails_through_a_hundred_rotations(
    language: str, sim: Simulator, tmp_path: Path
) -> None:
    """Each token is refused before the view has the next one; every call waits for it, and is answered."""
    command = await anyio.to_thread.run_sync(BUILDS[language], tmp_path / "program")
    stored = OAuthSession.from_json(json.dumps(sim.seed_oauth(sim.add_account("alice.test"))))
    (session,) = sim.state.oauth_sessions
    view = make_view(f"file://{tmp_path}/clients", group=None)
    view.open()

    def publish() -> None:
        newest = replace(stored, access_jwt=session.access_token, refresh_jwt=session.refresh_token)
        view.write({stored.did: encode_entry(newest, Standing("fresh", None))})

    publish()
    async with await anyio.open_process([*command, view.place, stored.did], stderr=None) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = TextReceiveStream(process.stdout)
        for number in range(1, ROTATIONS + 1):
            rotate(sim.state, session)
            await process.stdin.send(b"com.atproto.server.getSession\n")
            with anyio.fail_after(60):
                while sim.counters.api_refusals < number:
                    await anyio.sleep(0.005)
                publish()
                assert json.loads(await _line(answers))["did"] == stored.did
        await process.stdin.aclose()
        with anyio.fail_after(60):
            assert await process.wait() == 0
    assert sim.counters.api_refusals == ROTATIONS
    assert session.alive


async def _line(answers: TextReceiveStream) -> str:
    text = ""
    while not text.endswith("\n"):
        text += await answers.receive()
    return text
