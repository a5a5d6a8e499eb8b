"""Waits for a login's authorization response (RFC 6749, section 4.1.2).

It arrives by the browser's redirect to this machine, or a person pastes the address of the browser's last
page; the first one that belongs to the login counts.
"""

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from idiolectd.cli.browser.listener import Listener
from idiolectd.cli.browser.pages import Page
from idiolectd.cli.browser.paste import InputEnded, wait_pasted
from idiolectd.cli.exits import CommandFailed, ExitCode
from idiolectd.cli.output import say

_STRANGER = (
    "ignored a request to the redirect address that does not belong to this login (from an old page, or"
    " another program); still waiting"
)
_WRONG = "that is not the last address of this login; paste the whole address"


@dataclass(frozen=True)
class AuthorizationResponse:
    """An authorization response that has not been parsed yet.

    Attributes:
        query: the raw query of the redirect.
        answer: shows a page in the browser, if it was redirected to this machine.
    """

    query: str = field(repr=False)
    answer: Callable[[Page], Awaitable[None]]


async def wait_authorization_response(
    is_ours: Callable[[str], bool], listener: Listener | None, *, patience: float
) -> AuthorizationResponse:
    """Waits for the first authorization response that belongs to the login.

    Args:
        is_ours: returns whether a raw query belongs to the login.
        listener: receives the browser's redirect; None: the address can only be pasted. On a terminal it
            can be pasted in any case.
        patience: seconds to wait.

    Raises:
        CommandFailed: no response came in time, or standard input ended and there is no listener.
    """
    responses: list[AuthorizationResponse] = []
    with anyio.move_on_after(patience):
        if listener is None:
            return await _pasted(is_ours)
        async with anyio.create_task_group() as tg:

            async def listen() -> None:
                redirect = await listener.wait_redirect(is_ours, _Once(_STRANGER))
                responses.append(AuthorizationResponse(redirect.query, redirect.answer))
                tg.cancel_scope.cancel()

            async def read() -> None:
                try:
                    responses.append(await _pasted(is_ours))
                except InputEnded:
                    return  # the redirect may still arrive
                tg.cancel_scope.cancel()

            tg.start_soon(listen)
            if sys.stdin.isatty():
                tg.start_soon(read)
    if responses:
        return responses[0]
    raise CommandFailed(
        ExitCode.TRY_LATER,
        f"the browser did not come back within {patience / 60:.0f} minutes; nothing was stored, run it again",
    )


async def _pasted(is_ours: Callable[[str], bool]) -> AuthorizationResponse:
    return AuthorizationResponse(
        await wait_pasted(sys.stdin.fileno(), is_ours, lambda: say(_WRONG)), _to_nobody
    )


async def _to_nobody(_page: Page) -> None:
    """Shows no page: the browser is on another machine, and the terminal shows the result."""


class _Once:
    """Writes a message the first time only: any program on this machine can send endless such requests."""

    def __init__(self, text: str) -> None:
        self._text: str | None = text

    def __call__(self) -> None:
        text, self._text = self._text, None
        if text is not None:
            say(text)
