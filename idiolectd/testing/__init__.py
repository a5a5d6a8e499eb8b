"""For the tests of programs that use stored sessions: a PDS and a store, both in memory.

Needs nothing but what a client program has installed. For synchronous and asynchronous tests::

    with FakePds() as pds:
        alice = pds.add_account("alice.test")
        store = MemoryStore(alice.session)
        with httpx.Client(auth=SessionAuth(store, alice.did)) as http:
            http.get(f"{pds.url}/xrpc/com.atproto.server.getSession")
        alice.rotate()              # the old token is refused from now on
        store.put(alice.session)    # as the daemon saves the new one

`idiolectd.testing.fixtures` has these as fixtures of pytest.
"""

from idiolectd.testing.fake_pds import Call, FakeAccount, FakePds
from idiolectd.testing.stores import MemoryStore, write_session

__all__ = ["Call", "FakeAccount", "FakePds", "MemoryStore", "write_session"]
