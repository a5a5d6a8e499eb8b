"""What one request of a client does, step by step: `AuthFlow` decides them, an adapter carries them out."""

from collections.abc import Generator, Mapping
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from idiolectd.session import OAuthSession

T = TypeVar("T")


class Answer(Protocol):
    """A response of an HTTP library.

    Attributes:
        status_code: as sent.
        headers: found by their names in lower case.
        url: what was asked for in the end, as `str`.
    """

    @property
    def status_code(self) -> int:
        """See above."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """See above."""
        ...

    @property
    def url(self) -> object:
        """See above."""
        ...


class RequestBody(Enum):
    """How often a request's body can be sent."""

    REPEATABLE = auto()
    SMALL = auto()  # once, and it fits into memory
    ONCE = auto()


class Load:
    """Read the record. Its result is the `Credentials` of the session.

    Raises `NoSessionError`, `RecordError`, `StoreError`.
    """


class Send:
    """Send the request. Its result is the `Answer`.

    Attributes:
        headers: what authorizes it. A header ``DPoP`` that it has otherwise must go.
        probe: send a GET to this URL in its place, without a body; None: the request itself.
    """

    def __init__(self, headers: Mapping[str, str], probe: str | None) -> None:
        self.headers = headers
        self.probe = probe


class ReadBody:
    """Read the request's body into memory."""


class ReadBeginning:
    """Read the beginning of an answer's body, which is the result; the caller can still read all of it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Pause:
    """Wait for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Renew:
    """Refresh the session under the claim, unless another request in this process does so already.

    Its result is whether this request refreshed it; raises what a refresh raises.

    Attributes:
        refused: the access token that the server refused; None: it is only about to expire.
    """

    def __init__(self, refused: str | None) -> None:
        self.refused = refused


class Tell:
    """Tell the daemon that the newest access token in its view is refused. It has no result, and raises nothing.

    Attributes:
        session: with the token.
    """

    def __init__(self, session: OAuthSession) -> None:
        self.session = session


class Explain:
    """Find out why no stored token is accepted. Its result is the `TokenRefused` to raise.

    Attributes:
        session: the session whose token was refused last.
        tokens: how many of its tokens were refused.
        waited: for how many seconds the record was watched.
    """

    def __init__(self, session: OAuthSession, tokens: int, waited: float) -> None:
        self.session = session
        self.tokens = tokens
        self.waited = waited


Work = Load | ReadBody | ReadBeginning | Pause | Renew | Tell | Explain
Step = Send | Work
Steps = Generator[Step, Any, T]
