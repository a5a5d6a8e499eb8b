"""How a session stands, as its entry in a view says. Beside nothing else: client programs load it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from idiolectd.session import OAuthSession

if TYPE_CHECKING:
    from idiolectd.state import RefreshState

# The states (`idiolectd.state.State`) in which no refresh brings a newer token before a person has done something.
_RESTING = ("relogin_required", "suspended", "quarantined")
_WELL = "fresh"


@dataclass(frozen=True)
class Standing:
    """How a session stands, for whoever may not read its refresh state.

    Attributes:
        state: a `State`'s value, or one that a newer program wrote.
        cause: a `Cause`'s value; None: there is none to name.
        message: what its server said last, while it is not well.
    """

    state: str
    cause: str | None
    message: str | None = None

    @classmethod
    def of(cls, state: "RefreshState") -> Self:
        """How a session stands by its refresh state."""
        error = state.last_error if state.state != _WELL else None
        return cls(state.state.value, state.cause, None if error is None else error.message)

    @classmethod
    def in_entry(cls, session: OAuthSession) -> Self | None:
        """How a session stood when its entry was written; None: it was read from no view."""
        found = [session.extra.get(name) for name in ("state", "cause", "stateMessage")]
        state, cause, message = (text if isinstance(text, str) else None for text in found)
        return None if state is None or session.refresh_jwt else cls(state, cause, message)

    def as_fields(self) -> dict[str, str]:
        """The fields of an entry."""
        fields = {"state": self.state, "cause": self.cause, "stateMessage": self.message}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def rests(self) -> bool:
        """Whether no newer token is to be expected: a person has to do something first."""
        return self.state in _RESTING
