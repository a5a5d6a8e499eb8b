"""The store in memory, beside a foreign program that writes into it."""

from idiolectd.store import InMemoryOAuthTokenStore


class MemoryStore(InMemoryOAuthTokenStore):
    """A store in memory that can be changed as a foreign program changes files or rows."""

    def put_record(self, did: str, text: bytes) -> None:
        """Stores any text as a record, as a foreign program could: for what is not a session."""
        self._records[did] = text
        if not self._watches:  # the next one is told
            self._schedule.put(did, None)
        self._report(did)

    def remove_record(self, did: str) -> None:
        """Removes a record and nothing else, as a foreign program could."""
        self._records.pop(did, None)
        self._report(did)
