"""Each store against a model: two handles on one store, foreign writers, damage, re-opening.

Shows promises 3, 4, 6 and 8 as far as whole operations go. Does not show: crashes inside one
operation, several processes at once (the torture runs do).
"""

import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from idiolectd.did import file_name, upstream_file_name
from idiolectd.errors import RecordError
from idiolectd.ports import Committed, ScheduleEntry, SharedStore
from idiolectd.session import OAuthSession
from idiolectd.state import LastError, RefreshState, reconcile
from tests.machines.model import Account, Knowledge
from tests.machines.profiles import TORTURE, runs
from tests.store.support import (
    ALICE,
    NOW,
    WEB_COLON,
    WEB_UNDERSCORE,
    key,
    opener,
    put_foreign,
    session,
    tokens,
)

DIDS = (ALICE, WEB_COLON, WEB_UNDERSCORE)
HANDLES = (0, 1)

# Most things happen to one account: a history has to become long before it becomes interesting.
accounts = st.sampled_from([0, 0, 0, 0, 1, 2])
handles = st.sampled_from(HANDLES)
meanwhile = st.sampled_from(
    ["nothing", "nothing", "nonce", "login", "logout", "rotation", "used token", "stale save"]
)


class StoreMachine(RuleBasedStateMachine):
    """Two handles of one store, and what it must hold."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.accounts = [Account(did) for did in DIDS]
        self.states: dict[str, RefreshState] = {}
        self._serial = 0
        self._portal: BlockingPortal
        self._stores: list[SharedStore] = []
        self._open: list[AbstractContextManager[SharedStore]] = []

    @initialize(backend=st.sampled_from(["trio", "asyncio"]))
    def begin(self, backend: str) -> None:
        self._portal = self._stack.enter_context(start_blocking_portal(backend))
        self._reopen()

    def teardown(self) -> None:
        self._close()
        self._stack.close()

    # What our own API does -------------------------------------------------------------------

    @rule(which=accounts, handle=handles, legacy=st.booleans())
    def login(self, which: int, handle: int, legacy: bool) -> None:
        """A new session wins over whatever is stored."""
        self._login(self.accounts[which], handle, legacy=legacy)

    @rule(which=accounts, handle=handles)
    def save_a_nonce(self, which: int, handle: int) -> None:
        """Load, set a field, save whole: the field is stored, the tokens stay."""
        account = self.accounts[which]
        loaded = self._load(handle, account)
        if loaded is None:
            return
        account.noticed()
        self._call(handle, "save", replace(loaded, dpop_nonce=f"nonce-{self._next()}"))
        self._adopted(handle, account)

    @precondition(lambda self: any(account.past for account in self.accounts))
    @rule(data=st.data(), handle=handles)
    def save_a_stale_copy(self, data: st.DataObject, handle: int) -> None:
        """A program that slept saves what it loaded long ago: used tokens don't come back."""
        account = data.draw(st.sampled_from([a for a in self.accounts if a.past]), label="whose")
        self._save_stale(account, handle, data.draw(st.sampled_from(account.past), label="copy"))

    @rule(which=accounts, handle=handles)
    def logout(self, which: int, handle: int) -> None:
        """After a delete nothing is left, and nothing of it is remembered."""
        self._logout(self.accounts[which], handle)

    @rule(which=accounts, handle=handles, between=meanwhile, rotate=st.booleans(), data=st.data())
    def commit(self, which: int, handle: int, between: str, rotate: bool, data: st.DataObject) -> None:
        """Read, let something happen, commit: newer stays, the state is what was committed."""
        account = self.accounts[which]
        if account.stored is None:
            self._login(account, handle)
        entry = self._call(handle, "read", account.did)
        assert entry.session == account.stored
        adopted = reconcile(entry.session, entry.state, NOW)
        # What this commit knows; others, and the store, know it only once it is done.
        aware = account.known.seeing(account.stored)
        read, state = adopted.session, replace(adopted.state, attempts=data.draw(st.integers(0, 9)))
        fresh = tokens(self._next()) if rotate else None
        if fresh is not None:
            state = state.rotated(read, read.with_tokens(fresh), NOW)
        state = replace(state, last_error=LastError("code", "text", NOW), next_attempt_at=NOW + self._next())
        before = account.stored
        changed = self._meanwhile(account, between, 1 - handle, aware)
        line = ScheduleEntry(
            at=state.next_attempt_at or 0, did=account.did, expires_at=NOW, server="https://issuer.example"
        )
        done = self._call(handle, "commit", entry.session, state, tokens=fresh, due=line)
        stored = self._load(handle, account, anything=True)
        if changed == "logout":
            assert done is Committed.GONE
            assert stored is None
            account.forget()
            self.states.pop(account.did, None)
            return
        used_up = {*aware.spent, read.refresh_jwt} if rotate else {*aware.spent}
        rival = account.stored if changed in ("login", "rotation") else None
        if rival is not None and rival.refresh_jwt not in used_up:
            assert done is Committed.SUPERSEDED
            assert stored == account.stored
            return
        assert done is Committed.DONE
        assert before is not None
        assert stored is not None
        if fresh is None:
            assert stored == account.stored
        else:
            assert stored.refresh_jwt == fresh.refresh_jwt
            assert stored.access_jwt == fresh.access_jwt
            assert account.stored is not None
            assert stored.dpop_nonce == account.stored.dpop_nonce  # what nobody meant to change stays
            account.holds(stored)
            aware = aware.learning(stored)
        account.known = aware
        self.states[account.did] = state
        (found,) = [due for due in self._call(handle, "due", 1e12, limit=99) if due.did == account.did]
        assert found == line

    @rule(which=accounts, handle=handles)
    def commit_for_nobody(self, which: int, handle: int) -> None:
        """Where nothing is stored a commit writes nothing."""
        account = self.accounts[which]
        if account.is_there:
            return
        done = self._call(
            handle, "commit", session(account.did, 1), RefreshState(attempts=3), tokens=tokens(2)
        )
        assert done is Committed.GONE
        account.forget()
        self.states.pop(account.did, None)

    # What others do --------------------------------------------------------------------------

    @rule(
        which=accounts, what=st.sampled_from(["nonce", "rotation", "login", "used token", "fields dropped"])
    )
    def foreign_write(self, which: int, what: str) -> None:
        """Another program writes the whole record, in its own way and without our locks."""
        account = self.accounts[which]
        self._meanwhile(account, what, 0, account.known)

    @rule(
        which=accounts,
        text=st.sampled_from(
            [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b'{"did":"did:plc:x"}', b'{"a":' * 99]
        ),
    )
    def foreign_damage(self, which: int, text: bytes) -> None:
        """Another program writes half a record, or something else altogether."""
        account = self.accounts[which]
        if self._is_shared(account):
            return
        self._portal.call(put_foreign, self._stores[0], self.folder, account.did, text)
        account.stored, account.damaged = None, text

    @rule()
    def reopen(self) -> None:
        """Both handles close; what was stored is stored."""
        if self.kind != "memory":
            self._close()
            self._reopen()

    # What always holds -----------------------------------------------------------------------

    @invariant()
    def records_are_whole_and_newest(self) -> None:
        """Every handle reads what the model holds: a whole record, an error for a damaged one, or nothing."""
        for handle in HANDLES if self._stores else ():
            for account in self.accounts:
                loaded = self._load(handle, account)
                assert loaded == account.stored, account.did
            readable = sorted(account.did for account in self.accounts if account.stored is not None)
            assert self._call(handle, "list_dids") == readable

    @invariant()
    def states_survive(self) -> None:
        """A committed state is read back as it was, until the record changes."""
        for account in self.accounts if self._stores else ():
            state = self.states.get(account.did)
            if state is not None and account.stored is not None:
                assert self._call(0, "read", account.did).state == state

    # -----------------------------------------------------------------------------------------

    def _login(self, account: Account, handle: int, *, legacy: bool = False) -> None:
        serial = self._next()
        made = session(
            account.did,
            serial,
            dpop_private_key_jwk=None if legacy else key(f"key-{serial}"),
            token_type="Bearer" if legacy else "DPoP",
        )
        account.noticed()
        self._call(handle, "save", made)
        account.learned(made)
        account.holds(made)
        self.states.pop(account.did, None)
        assert self._load(handle, account) == made

    def _save_stale(self, account: Account, handle: int, copy: OAuthSession) -> None:
        account.noticed()
        known = copy.refresh_jwt in account.known.spent
        before = account.stored
        self._call(handle, "save", copy)
        stored = self._load(handle, account, anything=True)
        assert stored is not None
        if known:
            spent, good = account.known.spent, account.known.good
            assert stored.refresh_jwt not in spent
            newest = good if before is None or before.refresh_jwt in spent else before
            assert newest is not None
            assert stored.refresh_jwt == newest.refresh_jwt
            assert stored.access_jwt == newest.access_jwt
        else:
            assert stored.refresh_jwt == copy.refresh_jwt
        self._adopted(handle, account)

    def _logout(self, account: Account, handle: int) -> None:
        self._call(handle, "delete", account.did)
        account.forget()
        self.states.pop(account.did, None)

    def _meanwhile(self, account: Account, what: str, handle: int, known: Knowledge) -> str | None:
        """Something happens to a record; returns what, None if it could not.

        Args:
            account: whose.
            what: happens.
            handle: through which one, if it is our own doing.
            known: what those know who are to be deceived.
        """
        stored = account.stored
        if what in ("login", "stale save", "logout"):
            if what == "login":
                self._login(account, handle)
            elif what == "logout":
                self._logout(account, handle)
            elif account.past:
                return self._stale_meanwhile(account, handle)
            return what
        if stored is None or what == "nothing" or self._is_shared(account):
            return None
        match what:
            case "nonce":
                written = replace(stored, dpop_nonce=f"nonce-{self._next()}")
            case "fields dropped":
                written = replace(stored, issuer=None, extra={"theirs": self._next()})
            case "rotation":
                written = stored.with_tokens(tokens(self._next()))
            case _:
                used = [old for old in account.past if old.refresh_jwt in known.spent]
                same = [old for old in used if old.dpop_thumbprint == stored.dpop_thumbprint]
                if not same or known.good is None or known.good.dpop_thumbprint != stored.dpop_thumbprint:
                    return None
                written = same[-1]
        self._portal.call(put_foreign, self._stores[0], self.folder, account.did, written.to_json().encode())
        account.holds(written)
        return what

    def _stale_meanwhile(self, account: Account, handle: int) -> str | None:
        known = [old for old in account.past if old.refresh_jwt in account.known.spent]
        if not known or account.stored is None:
            return None
        before = account.stored.refresh_jwt
        self._save_stale(account, handle, known[0])
        return None if account.stored.refresh_jwt == before else "rotation"

    def _adopted(self, handle: int, account: Account) -> None:
        """A save merges what it is given into what is there: the outcome is the new truth, if it is not old."""
        stored = self._load(handle, account, anything=True)
        assert stored is not None
        assert stored.refresh_jwt not in account.known.spent, "a used token was published"
        account.learned(stored)
        account.holds(stored)
        self.states.pop(account.did, None)

    def _is_shared(self, account: Account) -> bool:
        """Whether a foreign program's file could be another account's: that is told elsewhere."""
        return self.kind == "files" and upstream_file_name(account.did) != file_name(account.did)

    def _load(self, handle: int, account: Account, *, anything: bool = False) -> OAuthSession | None:
        try:
            found: OAuthSession | None = self._call(handle, "load", account.did)
        except RecordError as error:
            assert account.damaged is not None or anything
            assert error.did in (None, account.did)
            return None
        if found is not None:
            assert OAuthSession.from_json(found.to_json()) == found
        return found

    def _call(self, handle: int, name: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await getattr(self._stores[handle], name)(*args, **kwargs)

        return self._portal.call(call)

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _reopen(self) -> None:
        opening = opener(self.kind, self.folder)
        for _ in HANDLES if self.kind != "memory" else HANDLES[:1]:
            context = self._portal.wrap_async_context_manager(opening())
            self._stores.append(context.__enter__())
            self._open.append(context)
        if self.kind == "memory":
            self._stores *= 2

    def _close(self) -> None:
        self._stores.clear()
        while self._open:
            self._open.pop().__exit__(None, None, None)


class FilesMachine(StoreMachine):
    kind = "files"


class SqliteMachine(StoreMachine):
    kind = "sqlite"


def _case(machine: type[StoreMachine], examples: int) -> Any:
    machine.TestCase.settings = runs(examples, 20)
    return pytest.mark.slow(pytest.mark.timeout(7200 if TORTURE else 600)(machine.TestCase))


TestMemory = _case(StoreMachine, 150)
TestFiles = _case(FilesMachine, 15)
TestSqlite = _case(SqliteMachine, 15)
