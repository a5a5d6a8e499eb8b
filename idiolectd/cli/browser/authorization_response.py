"""Waits for a login's authorization response (RFC 6749, section 4.1.2).

The browser brings it by the redirect to this machine, or a person pastes the address that the browser ended
at; the first one counts.
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
    "something called the redirect address without belonging to this login (an old page, or another"
    " program); still waiting"
)
_WRONG = "that is not the address that this login ends at; paste the whole address"


@dataclass(frozen=True)
class AuthorizationResponse:
    """An authorization response as it came, not yet read.

    Attributes:
        query: the raw query of the redirect_uri.
        answer: shows a page to the browser, if that waits on this machine.
    """

    query: str = field(repr=False)
    answer: Callable[[Page], Awaitable[None]]


async def wait_authorization_response(
    is_ours: Callable[[str], bool], listener: Listener | None, *, patience: float
) -> AuthorizationResponse:
    """Waits for the first authorization response that belongs to the login.

    Args:
        is_ours: whether a raw query does.
        listener: where the browser comes back to; None: it does not, and somebody pastes. With a
            terminal, somebody may paste in any case.
        patience: for how many seconds.

    Raises:
        CommandFailed: nobody came in time, or the input ended and nobody else can come.
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
                    return  # the browser may still come
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
    """The browser is elsewhere; the terminal tells."""


class _Once:
    """Says something the first time: anybody on this machine can call the redirect address without end."""

    def __init__(self, text: str) -> None:
        self._text: str | None = text

    def __call__(self) -> None:
        text, self._text = self._text, None
        if text is not None:
            say(text)
