"""Makes the token endpoint's parameters and reads its answers, for a refresh and for a login's code.

An answer to a refresh that holds a token is `Arrived`, whatever else is wrong with it: the server has used up
the old refresh token by then. What does not match the session is reported together with the tokens.
"""

from dataclasses import dataclass, field

from idiolectd.clock import rfc3339
from idiolectd.errors import NotSent, Unclear
from idiolectd.foreign import number
from idiolectd.http import CutOff, ErrorResponse, Response, judge_failure, judge_refusal, text_member
from idiolectd.jose import claimed_life
from idiolectd.outcome import Ambiguous, Code
from idiolectd.policy import CAUTIOUS_LIFETIME, believed_lifetime
from idiolectd.ports import Answer, Arrived
from idiolectd.session import OAuthSession, Tokens

# Seconds until the next refresh if an answer held no access token: the old one is invalid, or soon will be.
_WITHOUT_ACCESS_TOKEN = 60.0


def refresh_parameters(refresh_token: str) -> dict[str, str]:
    """The parameters of a refresh (RFC 6749, section 6)."""
    return {"grant_type": "refresh_token", "refresh_token": refresh_token}


def code_parameters(code: str, redirect_uri: str, code_verifier: str) -> dict[str, str]:
    """The parameters of a code exchange (RFC 6749, section 4.1.3, and RFC 7636, section 4.5)."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier,
    }


@dataclass(frozen=True)
class TokenResponse:
    """The usable fields of a successful answer (RFC 6749, section 5.1) that holds at least one token.

    Attributes:
        access_token: opaque; None: it is missing.
        refresh_token: opaque; None: it is missing.
        lifetime: seconds until the access token expires.
        token_type: as sent.
        scope: the scope that was granted.
        sub: the account's DID (ATProto's addition).
    """

    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: float
    token_type: str | None
    scope: str | None
    sub: str | None

    @classmethod
    def found(cls, response: Response) -> "TokenResponse | None":
        """Reads an answer; None if it holds no token.

        An answer that is cut off or not a JSON object counts only if its refresh token can be read: an access
        token alone does not show whether the old refresh token was used up.
        """
        whole = response.json_object()
        body = response.members() if whole is None else whole
        access_token, refresh_token = text_member(body, "access_token"), text_member(body, "refresh_token")
        if refresh_token is None and (access_token is None or whole is None):
            return None
        return cls(
            access_token,
            refresh_token,
            _lifetime(body.get("expires_in"), access_token or ""),
            text_member(body, "token_type"),
            text_member(body, "scope"),
            text_member(body, "sub"),
        )

    def mismatch(self, did: str) -> str | None:
        """What in the answer contradicts DPoP-bound tokens of this account; None: nothing does."""
        if self.token_type is not None and self.token_type.lower() != "dpop":
            return "the answer's token_type is not DPoP"
        if self.sub is not None and self.sub != did:
            return "the answer's sub is not the session's DID"
        return None

    @property
    def unconfirmed(self) -> str | None:
        """Which of the required fields `token_type` and `sub` the answer lacks; None: it has both."""
        said = {"token_type": self.token_type, "sub": self.sub}
        missing = [name for name, value in said.items() if value is None]
        return f"the answer came without {' and '.join(missing)}" if missing else None


def read_answer(response: Response, session: OAuthSession, *, sent_at: float, now: float) -> Answer:
    """What the token endpoint's answer means for a session.

    Args:
        response: the answer.
        session: whose refresh token was sent.
        sent_at: when the request was sent, by our clock: the new tokens are not older than that.
        now: the time by our clock.
    """
    found = TokenResponse.found(response) if response.is_success else None
    if found is not None:
        return _arrived(found, session, sent_at)
    refusal = ErrorResponse.found(response)
    if response.is_success and refusal.error is None:
        return Ambiguous(Code.UNREADABLE_ANSWER, f"{response.status} without tokens in it")
    secrets = (session.access_jwt, session.refresh_jwt)
    return judge_refusal("dpop", response, refusal, now=now, secrets=secrets)


def read_cut_off(error: NotSent | Unclear, session: OAuthSession, *, sent_at: float) -> Answer:
    """What an incomplete answer means for a session: new tokens, if they are in the part that arrived.

    Never a refusal, because the rest of the answer is not known.
    """
    if isinstance(error, CutOff) and error.response.is_success:
        found = TokenResponse.found(error.response)
        if found is not None:
            return _arrived(found, session, sent_at)
    return judge_failure(error)


def _arrived(found: TokenResponse, session: OAuthSession, sent_at: float) -> Arrived:
    # An answer without an access token still holds the only copy of the new refresh token: it is stored, and
    # the next refresh follows in a minute, not at once, so that this can't loop.
    lifetime = found.lifetime if found.access_token is not None else _WITHOUT_ACCESS_TOKEN
    tokens = Tokens(
        access_jwt=found.access_token or session.access_jwt,
        refresh_jwt=found.refresh_token or session.refresh_jwt,  # RFC 6749, section 6
        issued_at=rfc3339(sent_at),
        expires_at=rfc3339(sent_at + lifetime),
        token_type="DPoP",  # noqa: S106 -- a type, not a password
        scope=found.scope,
    )
    return Arrived(tokens, found.mismatch(session.did), found.unconfirmed)


def _lifetime(expires_in: object, access_token: str) -> float:
    """Seconds until the access token expires: the shorter of what answer and JWT say, else a default."""
    return believed_lifetime(number(expires_in, 0.0), claimed_life(access_token)) or CAUTIOUS_LIFETIME
