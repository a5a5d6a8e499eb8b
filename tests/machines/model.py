"""What a store must hold, in the simplest terms: one account's history of tokens, and where it stands.

Written from the promises, not from the code: newer is never overwritten by older; a token known to
be used up is never published by us; foreign programs may write what they like, and are undone only
where they put a used token back.
"""

from dataclasses import dataclass, field

from idiolectd.session import OAuthSession


@dataclass
class Account:
    """One DID.

    Attributes:
        did: whose.
        stored: what is stored; None: nothing, or `damaged`.
        damaged: what is stored instead of a record.
        good: the last record that one of our own writes has seen or made.
        spent: refresh tokens that our own writes know to be used up.
        past: every record that was ever stored, for stale copies to come back from.
    """

    did: str
    stored: OAuthSession | None = None
    damaged: bytes | None = None
    good: OAuthSession | None = None
    spent: set[str] = field(default_factory=set)
    past: list[OAuthSession] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        """Whether there is any record."""
        return self.stored is not None or self.damaged is not None

    def holds(self, session: OAuthSession) -> None:
        """Somebody stored this."""
        self.stored, self.damaged = session, None
        self.past.append(session)

    def noticed(self) -> None:
        """A write of ours looks at the record first: a foreign program may have been there."""
        if self.stored is None:
            return
        put_back = self.stored.refresh_jwt in self.spent
        if put_back and self.good is not None:
            return  # a used token: whatever comes of it, it does not become the good one
        self.learned(self.stored)

    def learned(self, session: OAuthSession) -> None:
        """This is the newest there is; what was good before it is used up."""
        if self.good is not None and self.good.refresh_jwt != session.refresh_jwt:
            self.spent.add(self.good.refresh_jwt)
        self.good = session

    def forget(self) -> None:
        """A logout: all that was known is gone."""
        self.stored = self.damaged = self.good = None
        self.spent.clear()
