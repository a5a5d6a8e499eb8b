"""What a refresher must offer.

`Refresher` is idiolect-oauth's callback. `SplitRefresher` is how our own refreshers are built, so
that the durable note can stand between preparing and sending.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

from idiolectd.outcome import Ambiguous, Cause, Retry, Suspended, Verdict
from idiolectd.session import Kind, OAuthSession, Tokens


class Refresher(Protocol):
    """Refreshes a session (idiolect-oauth's callback)."""

    async def refresh(self, session: OAuthSession) -> OAuthSession:
        """Returns the session with new tokens; its DPoP key may be a new one.

        Raises:
            NothingSent: the refresh token has not left this machine.
            TryLater: the server has answered, and the token is not used up.
            SessionRefused: the server refuses the session.
            Exception: anything else, and nobody knows whether the token is used up.
        """
        ...


@dataclass(frozen=True)
class Arrived:
    """The server answered with tokens; whether they fit is judged after they are durable.

    Attributes:
        tokens: what came.
        mismatch: why they must not be published (another `sub`, a wrong `token_type`); None: nothing that
            the answer says is against it.
        unconfirmed: what the answer lacks to say that they fit; None: it says so. Else the PDS is asked
            (`SplitRefresher.probe`) before they are published.
        account_status: what the server says of the account: `ACTIVE`, or why it is not; None: nothing.
    """

    tokens: Tokens
    mismatch: str | None = None
    unconfirmed: str | None = None
    account_status: str | None = None


@dataclass(frozen=True)
class Refused:
    """The server refuses the session or its client. Once is no verdict: see `idiolectd.refresh.verdict`.

    Attributes:
        verdict: what its words are worth: `CLIENT`, `SESSION`, `EXPIRED` or `REPLAYED`.
        cause: our name for what it says.
        code: the protocol's error code, or a short name of ours.
        message: for a person.
        retry_after: seconds the server asked for, if it did.
    """

    verdict: Verdict
    cause: Cause
    code: str
    message: str
    retry_after: float | None = None


def is_about_session(answer: object) -> bool:
    """Whether an answer refuses the session itself. After a revocation that shows that it has ended."""
    return isinstance(answer, Refused) and answer.verdict is not Verdict.CLIENT


Answer = Arrived | Refused | Retry | Ambiguous

RequestT = TypeVar("RequestT")


class AccessTokenStatus(Enum):
    """Whether a PDS takes an access token."""

    ACCEPTED = auto()
    REFUSED = auto()  # it says that the token has ended, or never was
    UNKNOWN = auto()  # anything else is no verdict
    NOT_CHECKABLE = auto()  # sending the refresh token again is the only way to know


@dataclass(frozen=True)
class Probe:
    """What a PDS said of an access token.

    Attributes:
        status: whether the PDS takes it.
        server_time: the answer's own `Date`, seconds since the epoch.
        did: the account that the PDS says the token belongs to; None: it does not say.
    """

    status: AccessTokenStatus
    server_time: float | None = None
    did: str | None = None


@dataclass(frozen=True)
class NotRevoked:
    """A revocation that is not known to have ended the session, and why.

    Attributes:
        message: for a person.
        passing: trying again later may help.
    """

    message: str
    passing: bool


@dataclass(frozen=True)
class Prepared(Generic[RequestT]):
    """All that is needed to send a refresh token, checked.

    Attributes:
        request: the refresher's own, opaque to others.
        session: the session with what was found out: the issuer and client that it had not named yet.
            They are pinned and stored.
        server: the origin that the refresh token is sent to; None: not known here.
    """

    request: RequestT
    session: OAuthSession
    server: str | None = None


@dataclass(frozen=True)
class AccountLocation:
    """Where an account is by its DID document, as far as one of its sessions is concerned.

    Attributes:
        session: with the account's present PDS if it goes along to that, and with its handle if that was
            asked for and could be told.
        is_handle_told: it could.
        moved_to: where the account is, if the session does not go along; None: where the session is.
    """

    session: OAuthSession
    is_handle_told: bool = False
    moved_to: str | None = None


class SplitRefresher(Protocol[RequestT]):
    """A refresher in two steps, with the durable note between them.

    Attributes:
        kind: of the sessions that it refreshes.
        has_grace: a used refresh token brings the same next one again for a while, so that an answer
            that was lost is found again by asking once more.
    """

    kind: Kind
    has_grace: bool

    async def locate(
        self, session: OAuthSession, *, with_handle: bool = False
    ) -> AccountLocation | Suspended | Retry:
        """Asks where the account lives now (DID → PDS → issuer). May be cancelled; sends no token.

        Args:
            session: whose account.
            with_handle: also whether its handle leads back to it, which may ask one server more.

        Returns:
            Where it is; `Suspended` if the session's issuer is no longer the account's; `Retry`: nobody
            can tell now, so nothing changes. Its `server` is who did not answer: an origin, or the DID's
            `idiolectd.did.directory`.
        """
        ...

    async def prepare(self, session: OAuthSession) -> Prepared[RequestT] | Retry | Suspended:
        """Discovery, nonce, local checks. May be cancelled; sends no refresh token.

        Args:
            session: what will be sent, pins restored.
        """
        ...

    async def send(self, session: OAuthSession, prepared: Prepared[RequestT]) -> Answer:
        """Sends the refresh token, once or, after `use_dpop_nonce`, twice. Never raises for I/O."""
        ...

    async def probe(self, session: OAuthSession) -> Probe:
        """Asks the PDS whether it still takes the access token, and whose that is. Sends no refresh token."""
        ...

    async def revoke(self, session: OAuthSession) -> NotRevoked | None:
        """Ends the session at the server, and checks that it ended: None once it refuses the token."""
        ...
