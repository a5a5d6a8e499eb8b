"""A new operator's first ten minutes, typed as the document shows them."""

import pytest

from tests.docs.transcript import typed_anew
from tests.systemd.machine import BUILD, ROOT, Machine
from tests.systemd.served import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "first-ten-minutes.md"
_PASSWORD = "abcd-efgh-ijkl-mnop"
_CLIENT = """\
import httpx
from idiolectd import SessionAuth, load_session

session = load_session(None, "alice.test")
with httpx.Client(auth=SessionAuth(None, session.did), base_url=session.pds_url) as http:
    print(http.get("/xrpc/com.atproto.server.getSession").json())
"""


def test_first_ten_minutes(machine: Machine) -> None:
    """If this fails: look at the difference to what it has written into `build`, and copy that to `docs`."""
    served = Served(machine)
    machine.call(f"{served.pds}/_sim/options", {"legacy_access_life": 5940})
    machine.call(f"{served.pds}/_sim/accounts", {"handle": "alice.test", "password": _PASSWORD})
    machine.run("ln", "-s", "/srv/1.deb", "/root/idiolectd_0.4.0-1_amd64.deb")
    machine.write("/root/app-password", f"{_PASSWORD}\n")
    machine.write("/root/loopback.toml", served.places)
    machine.run("useradd", "--create-home", "bot")
    machine.write("/home/bot/whoami.py", _CLIENT)

    def typed(command: str, as_root: bool) -> str:
        user = None if as_root else "bot"
        done = machine.run("sh", "-c", f"cd ~; {{ {command}\n}} 2>&1", user=user, check=False, COLUMNS="80")
        return done.stdout

    document = (ROOT / "docs" / NAME).read_text()
    now = typed_anew(document, typed)
    (BUILD / NAME).write_text(now)
    assert now == document
