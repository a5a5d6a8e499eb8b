"""`SessionAuth` for aiohttp."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.payload import AsyncIterablePayload, Payload

from idiolectd.auth import ReadBeginning, RequestBody, Send, SessionAuthBase
from idiolectd.errors import BodyUsedUp, IdiolectError


class SessionAuth(SessionAuthBase):
    """Authorizes the requests of aiohttp, as a client middleware. See `idiolectd.SessionAuth`.

    ::

        auth = SessionAuth("sqlite:///srv/sessions.sqlite", did)
        async with aiohttp.ClientSession(middlewares=[auth]) as http:
            await http.post(f"{pds}/xrpc/com.atproto.repo.createRecord", json=...)

    What differs: aiohttp asks it for each request of a redirect too, so one that leads to another host raises
    `TokenWithheld`. A refusal's body is read whole.
    """

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's client middlewares."""
        # What aiohttp has of a body can be sent again, but for what an async iterator brings.
        is_once = isinstance(request.body, AsyncIterablePayload)
        body = RequestBody.ONCE if is_once else RequestBody.REPEATABLE
        answer: _Answer | None = None
        with closing(self._steps(request.method, str(request.url), body)) as steps:
            try:
                step = next(steps)
                while True:
                    if isinstance(step, Send):
                        if answer is not None:
                            answer.response.release()
                        answer = _Answer(await _sent(request, handler, step))
                        step = steps.send(answer)
                        continue
                    try:
                        if isinstance(step, ReadBeginning):
                            brought: Any = b"" if answer is None else await answer.response.read()
                        else:
                            brought = await self._ado(step)
                    except IdiolectError as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(brought)
            except StopIteration:
                pass
            except BaseException:
                if answer is not None:
                    answer.response.release()
                raise
        assert answer is not None  # noqa: S101 - the steps end with an answer, or raise
        return answer.response


class _Answer:
    """A response, as the steps look at it."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.status_code = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = response.url


async def _sent(request: ClientRequest, handler: ClientHandlerType, step: Send) -> ClientResponse:
    if step.probe is not None:
        # No middlewares: this one has signed it already.
        return await request.session.get(
            step.probe, headers=step.headers, allow_redirects=False, middlewares=()
        )
    body = request.body
    if isinstance(body, Payload) and body.consumed:
        raise BodyUsedUp(
            f"{request.url.origin()} refused the request for its token or nonce, and its body can't be sent a"
            " second time: send the request again (or give its content as bytes)"
        )
    request.headers.popall("DPoP", None)
    request.headers.update(step.headers)
    return await handler(request)
