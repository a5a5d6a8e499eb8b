"""What a store must hold, in the simplest terms: one account's history of tokens, and where it stands.

Written from the promises, not from the code: newer is never overwritten by older; a token known to
be used up is never published by us; foreign programs may write what they like, and are undone only
where they put a used token back.
"""

from dataclasses import dataclass, field

from idiolectd.session import OAuthSession

# How many used tokens are remembered: a foreign program's copy is a few generations old at most.
REMEMBERED = 16


@dataclass(frozen=True)
class Knowledge:
    """What our own programs know of one account's tokens.

    Attributes:
        good: the last record that one of our own writes has seen or made.
        spent: refresh tokens that are known to be used up, newest last.
    """

    good: OAuthSession | None = None
    spent: tuple[str, ...] = ()

    def seeing(self, stored: OAuthSession | None) -> "Knowledge":
        """This, after a look at the record: a foreign program may have been there."""
        if stored is None or (stored.refresh_jwt in self.spent and self.good is not None):
            return self  # a used token: whatever comes of it, it does not become the good one
        return self.learning(stored)

    def learning(self, newest: OAuthSession) -> "Knowledge":
        """This, with the newest record there is: what was good before it is used up."""
        if self.good is None or self.good.refresh_jwt == newest.refresh_jwt:
            return Knowledge(newest, self.spent)
        used = self.good.refresh_jwt
        return Knowledge(newest, (*(old for old in self.spent if old != used), used)[-REMEMBERED:])


@dataclass
class Account:
    """One DID.

    Attributes:
        did: whose.
        stored: what is stored; None: nothing, or `damaged`.
        damaged: what is stored instead of a record.
        known: what our own writes have made durable.
        past: every record that was ever stored, for stale copies to come back from.
    """

    did: str
    stored: OAuthSession | None = None
    damaged: bytes | None = None
    known: Knowledge = Knowledge()
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
        """A write of ours looked at the record first, and wrote down what it saw."""
        self.known = self.known.seeing(self.stored)

    def learned(self, session: OAuthSession) -> None:
        """A write of ours made this the newest record."""
        self.known = self.known.learning(session)

    def forget(self) -> None:
        """A logout: all that was known is gone."""
        self.stored = self.damaged = None
        self.known = Knowledge()
