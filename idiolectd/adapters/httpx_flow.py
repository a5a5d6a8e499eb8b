"""Carries out the steps of a request with httpx, or with httpx2, which has the same names."""

from collections.abc import AsyncGenerator, Generator
from contextlib import closing, suppress
from typing import Any, ClassVar

from idiolectd.adapters.httpx_bodies import Bodies
from idiolectd.auth import ReadBeginning, ReadBody, RequestBody, Send, SessionAuthBase, Work, body_of
from idiolectd.errors import IdiolectError


class HttpxFlow(SessionAuthBase):
    """The methods by which an httpx client asks its `Auth` what to send; the base of both `SessionAuth`.

    Attributes:
        library: the module that the client, and all requests and responses, are of.
    """

    library: ClassVar[Any]

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """See `httpx.Auth`; for `httpx.Client`."""
        self._check_may_block()
        bodies = Bodies.of(self.library)
        steps = self._steps(request.method, str(request.url), self._body_of(request))
        with closing(steps), suppress(StopIteration):
            step, answer = next(steps), None
            while True:
                if isinstance(step, Send):
                    if answer is not None:
                        bodies.let_go(answer)
                    answer = yield self._signed(request, step)
                    step = steps.send(answer)
                    continue
                try:
                    brought = self._done(step, request, bodies)
                except IdiolectError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """See `httpx.Auth`; for `httpx.AsyncClient`."""
        bodies = Bodies.of(self.library)
        steps = self._steps(request.method, str(request.url), self._body_of(request))
        with closing(steps), suppress(StopIteration):
            step, answer = next(steps), None
            while True:
                if isinstance(step, Send):
                    if answer is not None:
                        await bodies.alet_go(answer)
                    answer = yield self._signed(request, step)
                    step = steps.send(answer)
                    continue
                try:
                    brought = await self._adone(step, request, bodies)
                except IdiolectError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)

    def _signed(self, request: Any, step: Send) -> Any:
        if step.probe is not None:
            # It takes over the request's time-outs and nothing else.
            request = self.library.Request("GET", step.probe, extensions=request.extensions)
        if "DPoP" not in step.headers:
            request.headers.pop("DPoP", None)  # a login has changed the kind of session
        for name, value in step.headers.items():
            request.headers[name] = value
        return request

    def _body_of(self, request: Any) -> RequestBody:
        if isinstance(request.stream, self.library.ByteStream):
            return RequestBody.REPEATABLE
        return body_of(request.headers.get("content-length"))

    def _done(self, step: Work, request: Any, bodies: Bodies) -> Any:
        if isinstance(step, ReadBody):
            # The library itself reports a stream of the wrong kind, when it is sent.
            return request.read() if isinstance(request.stream, self.library.SyncByteStream) else None
        if isinstance(step, ReadBeginning):
            return bodies.read_beginning(step.answer)
        return self._do(step)

    async def _adone(self, step: Work, request: Any, bodies: Bodies) -> Any:
        if isinstance(step, ReadBody):
            return await request.aread() if isinstance(request.stream, self.library.AsyncByteStream) else None
        if isinstance(step, ReadBeginning):
            return await bodies.aread_beginning(step.answer)
        return await self._ado(step)
