"""The README's way from nothing to the first record, typed as it stands there, on a real PDS."""

import os
import pty
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.daemon_process import environment
from tests.real_pds.browser import Browser, recording_browser, why_no_browser
from tests.real_pds.harness import RealPds
from tests.real_pds.marks import needs_pds

ROOT = Path(__file__).parents[2]
FIVE_MINUTES = 300.0

IS_CLONE = shutil.which("git") is not None and (ROOT / ".git").exists()
pytestmark = needs_pds(
    seconds=400, besides=why_no_browser() or (None if IS_CLONE else "this is no clone: no git repository")
)


def commands() -> list[str]:
    """What the README tells a first-time user to type."""
    blocks: list[str] = re.findall(
        r"<!-- first record -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    (block,) = blocks
    return block.splitlines()


@contextmanager
def shell(script: str, env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell that types the script's commands; its standard input is a terminal, as a person's is."""
    terminal, its_end = pty.openpty()
    with (
        (folder / "err").open("w") as err,
        subprocess.Popen(
            ["bash", "-e", "-c", script],
            stdin=its_end,
            stdout=subprocess.PIPE,
            stderr=err,
            env=env,
            cwd=folder,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        os.close(its_end)
        try:
            yield process
        finally:
            os.close(terminal)
            process.kill()


def test_there_are_six_commands() -> None:
    """The README promises how few there are."""
    assert len(commands()) == 6


def test_first_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clone, install, log in, run, write: the record is on the PDS in less than five minutes."""
    with RealPds(tmp_path / "pds") as pds, Browser() as browser:
        (account,) = pds.accounts
        typed = [
            line.replace("REPOSITORY", str(ROOT)).replace("HANDLE", account.handle) for line in commands()
        ]
        assert str(ROOT) in typed[0]
        assert account.handle in typed[-1]
        env = environment(
            "",
            HOME=str(tmp_path),
            BROWSER=str(recording_browser(tmp_path)),
            IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL=pds.plc_url,
            IDIOLECTD_IDENTITY__HANDLE_RESOLVER_URL=pds.url,
        )
        del env["IDIOLECTD_STORE__URL"], env["IDIOLECTD_STORE__SPILL_DIR"]
        end_of_the_daemon = "kill $!; wait"
        began = time.monotonic()
        with shell("\n".join([*typed, end_of_the_daemon]), env, tmp_path) as process:
            opened = tmp_path / "url"
            while not opened.exists():
                said = (tmp_path / "err").read_text()
                if process.poll() is not None and "No matching distribution" in said:
                    pytest.skip("no package index can be reached from here")
                assert process.poll() is None, said
                assert time.monotonic() - began < FIVE_MINUTES, said
                time.sleep(0.1)
            browser.open(opened.read_text())
            browser.sign_in(account.password)
            browser.press("Authorize")
            browser.wait_heading("Logged in")
            out, _ = process.communicate(timeout=60)
        took = time.monotonic() - began
        assert process.returncode == 0, (tmp_path / "err").read_text()
        (uri,) = re.findall(r"at://\S+", out)
        _, _, repo, collection, key = uri.split("/")
        record = httpx.get(
            f"{pds.url}/xrpc/com.atproto.repo.getRecord",
            params={"repo": repo, "collection": collection, "rkey": key},
            trust_env=False,
        ).json()
        assert record["value"]["text"] == "Hello!"
        assert took < FIVE_MINUTES
    with capsys.disabled():
        print(f"\nfrom clone to first record: {took:.0f} s, {len(typed)} commands")
