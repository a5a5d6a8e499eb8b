"""Ends a session at its server and checks that it ended: the way that both protocols have in common.

Servers answer 200 whether or not they revoked anything, so the answer proves nothing: a refresh with the same
token does. What one protocol sends, and how it judges the answer, its refresher brings along.
"""

from collections.abc import Awaitable, Callable

from idiolectd.errors import NotSent, Unclear
from idiolectd.ports import Answer, Arrived, NotRevoked, is_about_session
from idiolectd.session import OAuthSession

# A server that revokes nothing and still refreshes gets a second request, with the tokens it gave instead.
_REQUESTS = 2


async def revoke_and_check(
    session: OAuthSession,
    revoke: Callable[[OAuthSession], Awaitable[NotRevoked | None]],
    refresh: Callable[[OAuthSession], Awaitable[Answer]],
) -> NotRevoked | None:
    """Ends a session.

    Args:
        session: whose tokens are to end.
        revoke: sends one revocation; returns why the server refuses it, else None. May raise `TransportError`.
        refresh: sends the refresh token, for the check.

    Returns:
        None once the server refuses the refresh token; else why it can't be said that the session has ended.
    """
    for _ in range(_REQUESTS):
        try:
            refused = await revoke(session)
        except NotSent as error:
            return NotRevoked(str(error), passing=True)
        except Unclear:
            pass  # the check tells
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
