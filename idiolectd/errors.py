"""Every exception that idiolectd raises on purpose.

::

    IdiolectError
    ├── StoreError            the store can't do it; says nothing about a session
    │   ├── RecordError       one record can't be read; all others can
    │   ├── SealedError       the secrets of one session don't open with the keys that are there
    │   ├── LockBusy          somebody else kept a claim or the write lock too long
    │   └── SpillUnreadable   what this session's last refresh brought may lie where we can't look
    ├── SessionError          a session has the wrong shape
    │   ├── NewerState        what is known of it was written by a newer idiolectd
    │   ├── DidError          not a DID, or one that can't be a key of this store
    │   └── HandleError       a handle that names no one session: name the DID
    ├── RefreshError          a refresh did not bring a usable session
    │   ├── NoSessionError    nothing is stored for the DID: log in first
    │   └── RefreshFailed     the refresher could not; ``state`` says what that means
    ├── TokenWithheld         nothing was sent: the token does not belong to that host
    ├── TokenRefused          the PDS takes no token that is stored
    ├── BodyUsedUp            refused, and the body can't be sent again: make it anew
    ├── TransportError        an HTTP exchange without a whole answer
    │   ├── NotSent           not one byte of the request left: safe to repeat
    │   └── Unclear           the server may have acted on it: not safe to repeat
    ├── LoginError            a server, or the person, refused a login
    ├── IdentityError         a handle, DID or issuer could not be resolved or does not fit
    ├── UrlError              not a URL that is used
    └── ConfigError           the configuration is wrong; the message names the key

Rules: foreign exceptions (OSError, sqlite3, httpx, ...) are translated once, in the package that uses the
library. A message says what was found and what to do, and never holds a secret.
"""

from collections.abc import Sequence


class IdiolectError(Exception):
    """Base of all of them. Catch it to catch whatever idiolectd reports."""


class StoreError(IdiolectError):
    """The store can't be read or written now. It never means "no session": try again later."""


class RecordError(StoreError):
    """One record is unreadable. It stays where it is; repair or remove it by hand.

    Attributes:
        did: whose record it is, or None if not even that can be told.
        place: the file, or the table row, for a person to look at.
        reason: what is wrong with it.
    """

    def __init__(self, place: str, reason: str, *, did: str | None = None) -> None:
        super().__init__(f"{place}: {reason}")
        self.did = did
        self.place = place
        self.reason = reason


class SealedError(StoreError):
    """A session's secrets don't open with the keys of `store.keys`. Nothing was changed: mend the keys.

    Attributes:
        did: whose.
    """

    def __init__(self, place: str, reason: str, did: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.did = did


class LockBusy(StoreError):
    """Another holder kept a lock for longer than the caller would wait. Nothing was done: try again."""


class SpillUnreadable(StoreError):
    """A folder of spilled tokens can't be read, and this session's may be there. Nothing was sent.

    Make the folder readable for the store's owner, or mount its disk; the message names it.
    """


class SessionError(IdiolectError):
    """A session's fields are missing, of a wrong type, or contradict each other."""


class DidError(SessionError):
    """The text is not a DID, or it can't be used as a key. Check the account's spelling."""


class HandleError(SessionError):
    """A handle in stored sessions is confirmed for none of them, or for several. Name the DID, or confirm it.

    Attributes:
        dids: the DIDs of the sessions that have this handle.
    """

    def __init__(self, message: str, dids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.dids = dids


class NewerState(SessionError):
    """A newer idiolectd wrote a session's state. Nothing is sent for it: upgrade this one."""


class RefreshError(IdiolectError):
    """A refresh did not bring a usable session."""


class NothingSent(RefreshError):
    """For a `Refresher` to raise: the refresh token has not left this machine. It is tried again later."""


class TryLater(RefreshError):
    """For a `Refresher` to raise: the server has answered, and the refresh token is not used up.

    Attributes:
        retry_after: how many seconds the server asked to wait; None: it did not.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionRefused(RefreshError):
    """For a `Refresher` to raise: the server refuses the session. Heard several times, it ends it: log in again.

    Attributes:
        code: the server's error code (``invalid_grant``, ``ExpiredToken``, ...).
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class NoSessionError(RefreshError):
    """Nothing is stored for this DID. Log in first: ``idiolectd login ACCOUNT``."""

    def __init__(self, did: str) -> None:
        super().__init__(f"no session is stored for {did}; run: idiolectd login {did}")
        self.did = did


class RefreshFailed(RefreshError):
    """The refresher could not refresh (upstream's "refresh callback failed").

    Attributes:
        did: whose session.
        state: what the session is now, in the words of `idiolectd.state.State`: ``retrying`` and
            ``ambiguous`` mean wait, ``suspended`` and ``relogin_required`` mean that a person must act.
        code: the protocol's or our own short name of the failure.
    """

    def __init__(self, did: str, *, state: str, code: str, message: str) -> None:
        super().__init__(f"{did}: {message} ({code})")
        self.did = did
        self.state = state
        self.code = code


class TokenWithheld(IdiolectError):
    """A request was not sent, because its token does not belong to that host, or not over that scheme.

    The message names both hosts. If the token is meant for the other one too, say so: ``also=``.
    """


class TokenRefused(IdiolectError):
    """The PDS refused the stored access token, and no newer one was stored in time. Nothing was done.

    Check the program that refreshes this store; the message says what is known of it. Repeating the request
    helps once the record holds another token.

    Attributes:
        did: the account's DID.
        state: the session's `idiolectd.state.State`: ``relogin_required`` means that a person must log in;
            None: unknown.
        action: the command to type, if one is known to help.
    """

    def __init__(self, did: str, message: str, *, state: str | None, action: str | None) -> None:
        super().__init__(message)
        self.did = did
        self.state = state
        self.action = action


class BodyUsedUp(IdiolectError):
    """The PDS refused a request whose body could be sent only once. Nothing was done: send it again.

    It happens to bodies of unknown or large size if the token or the nonce changes at that moment.
    """


class TransportError(IdiolectError):
    """An HTTP exchange that brought no whole answer.

    Attributes:
        code: a short fixed name of what happened (``connect``, ``read_timeout``, ...).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotSent(TransportError):
    """Nothing of the request left this machine. Repeating it is safe."""


class Unclear(TransportError):
    """The request may have reached the server. Repeat it only if doing so twice is harmless."""


class LoginError(IdiolectError):
    """A login did not bring a session. Servers limit the rate of logins: never retry in a loop.

    Attributes:
        code: the server's error code (``AuthenticationRequired``, ``RateLimitExceeded``, ...), or a
            short name of ours.
        retry_after: how many seconds the server asked to wait, if it did.
        passing: whether the failure is temporary, so that trying again later may help.
    """

    def __init__(
        self, code: str, message: str, *, retry_after: float | None = None, passing: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.passing = passing or retry_after is not None


class IdentityError(IdiolectError):
    """A handle or DID did not resolve, or the two directions contradict each other.

    Attributes:
        final: True if the answer is negative; False if no source could be asked.
    """

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


class UrlError(IdiolectError):
    """The text is not an http or https URL, or programs could read it in different ways. Correct it."""


class ConfigError(IdiolectError):
    """The configuration is wrong. The message names the key, what was found, what is allowed."""


def missing_extra(missing: ModuleNotFoundError) -> str:
    """What to install where a part of idiolectd is used that the distribution without extras has not.

    Args:
        missing: the library that is not there.

    Raises:
        ModuleNotFoundError: it is a module of ours: no extra would bring it.
    """
    if (missing.name or "").partition(".")[0] == "idiolectd":
        raise missing
    return f"{missing.name} is missing; type: pip install 'idiolectd[daemon]' (in a clone: pip install '.[daemon]')"
