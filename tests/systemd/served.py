"""A booted machine with a PDS on its loopback, and sessions that are to be kept alive."""

from typing import Any

from tests.systemd.machine import Machine


class Served:
    """A machine and its simulated PDS.

    Args:
        machine: the machine.

    Attributes:
        pds: the URL of PDS, authorization server and directory.
        places: what a configuration says of them, in sections of its own.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # Due after four seconds: the tests wait for many refreshes.
        self.pds: str = machine.start_simulator("--access-life=5", "--legacy-access-life=5")["url"]
        self.places = (
            f'[identity]\nplc_directory_url = "{self.pds}"\nhandle_resolver_url = "{self.pds}"\n'
            "[network]\nallow_loopback_http = true\n"
        )
        self.accounts = 0

    def account(self, **sessions: object) -> dict[str, Any]:
        """A new account with sessions as the simulator's `seed` makes them."""
        self.accounts += 1
        body = {"handle": f"user{self.accounts}.test", "password": "pass-word", **sessions}
        found: dict[str, Any] = self.machine.call(f"{self.pds}/_sim/accounts", body)
        return found

    def login(self, user: str | None = None) -> str:
        """Logs a new account in, as root or as another user; returns its DID."""
        account = self.account()
        self.machine.run("idiolectd", "login", account["handle"], user=user, ATPROTO_APP_PASSWORD="pass-word")
        return str(account["did"])

    def alive(self, did: str) -> bool:
        """Whether the PDS knows a living session of the account."""
        return any(session["alive"] for session in self.machine.call(f"{self.pds}/_sim/sessions?did={did}"))

    def wait_refreshed(self, did: str) -> None:
        """Waits for one refresh more of a session."""
        before = len(self.machine.events("session.refreshed", did=did))
        self.machine.wait_event("session.refreshed", more_than=before, did=did)
