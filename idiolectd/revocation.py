"""Ends a session at its server and checks that it ended, for OAuth and legacy sessions alike.

Servers answer 200 whether or not they revoked anything (RFC 7009, section 2.2). So the session counts as
ended only once the server refuses a refresh with the same token. Each protocol's refresher passes in the two
requests.
"""

from collections.abc import Awaitable, Callable

from idiolectd.errors import NotSent, Unclear
from idiolectd.ports import Answer, Arrived, NotRevoked, is_about_session
from idiolectd.session import OAuthSession

# If the server still refreshes after the first revocation, the new tokens are revoked by a second one.
_REQUESTS = 2


async def revoke_and_check(
    session: OAuthSession,
    revoke: Callable[[OAuthSession], Awaitable[NotRevoked | None]],
    refresh: Callable[[OAuthSession], Awaitable[Answer]],
) -> NotRevoked | None:
    """Ends a session.

    Args:
        session: the session to end.
        revoke: sends one revocation; returns why the server refuses it, else None. May raise
            `TransportError`.
        refresh: sends the refresh token, to check that it is refused.

    Returns:
        None once the server refuses the refresh token; else why the session may not have ended.
    """
    for _ in range(_REQUESTS):
        try:
            refused = await revoke(session)
        except NotSent as error:
            return NotRevoked(str(error), passing=True)
        except Unclear:
            pass  # the check decides
        else:
            if refused is not None:
                return refused
        answer = await refresh(session)
        if is_about_session(answer):
            return None
        if not isinstance(answer, Arrived):
            return NotRevoked(f"whether it was revoked is not known: {answer.message}", passing=True)
        session = session.with_tokens(answer.tokens)
    return NotRevoked("the server still takes the refresh token after revoking it", passing=False)
