"""`SessionAuth` for requests."""

from typing import Any

import requests
from requests.auth import AuthBase
from requests.exceptions import UnrewindableBodyError
from requests.utils import rewind_body

from idiolectd.auth import ReadBeginning, RequestBody, Send, SessionAuthBase, Step, Steps
from idiolectd.errors import BodyUsedUp, IdiolectError


class SessionAuth(SessionAuthBase, AuthBase):
    """Authorizes the requests of requests, alone or of a `requests.Session`. See `idiolectd.SessionAuth`.

    ::

        http = requests.Session()
        http.auth = SessionAuth("sqlite:///srv/sessions.sqlite", did)
        http.post(f"{pds}/xrpc/com.atproto.repo.createRecord", json=...)

    What differs: a request is signed when it is prepared, so a prepared request is good for one sending. A body
    of bytes, JSON, a form or a file can be repeated; if one of a generator is refused, `BodyUsedUp` is raised. A
    refusal's body is read whole, as requests itself does. ``refresh=True`` needs an async library.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Signs a request; requests calls this when it prepares it."""
        self._check_may_block()
        steps = self._steps(request.method or "GET", request.url or "", RequestBody.REPEATABLE)
        step = next(steps)
        while not isinstance(step, Send):
            step = self._next(steps, step, None)
        _sign(request, step)
        request.register_hook("response", _Repeats(self, steps).answered)
        return request

    def _next(self, steps: Steps[None], step: Step, answer: requests.Response | None) -> Step:
        """Carries out a step other than to send; returns the next one."""
        try:
            if isinstance(step, ReadBeginning):
                brought = b"" if answer is None else answer.content
            else:
                assert not isinstance(step, Send)  # noqa: S101 - the callers send
                brought = self._do(step)
        except IdiolectError as error:
            return steps.throw(error)
        return steps.send(brought)

    def repeated(self, steps: Steps[None], answer: requests.Response, options: Any) -> requests.Response:
        """Goes on with a request's steps behind its first answer; returns the answer for the caller.

        Args:
            steps: those of the request.
            answer: the first answer.
            options: what the adapter was given to send the request with.
        """
        try:
            step = steps.send(answer)
            while True:
                if isinstance(step, Send):
                    answer = _sent_again(answer, step, options)
                    step = steps.send(answer)
                else:
                    step = self._next(steps, step, answer)
        except StopIteration:
            return answer
        finally:
            steps.close()


class _Repeats:
    """Looks at the first answer to one request; others follow redirects and were not sent the token."""

    def __init__(self, auth: SessionAuth, steps: Steps[None]) -> None:
        self._auth = auth
        self._steps: Steps[None] | None = steps

    def answered(self, answer: requests.Response, *_: Any, **options: Any) -> requests.Response:
        steps, self._steps = self._steps, None
        return answer if steps is None else self._auth.repeated(steps, answer, options)


def _sign(request: requests.PreparedRequest, step: Send) -> None:
    request.headers.pop("DPoP", None)
    request.headers.update(step.headers)


def _sent_again(answer: requests.Response, step: Send, options: Any) -> requests.Response:
    request = answer.request.copy()
    body = request.body
    if body is not None and not isinstance(body, str | bytes):
        try:
            rewind_body(request)
        except UnrewindableBodyError:
            raise BodyUsedUp(
                f"{request.url} refused the request for its token or nonce, and its body can't be sent a second"
                " time: send the request again (or give its content as bytes)"
            ) from None
    _sign(request, step)
    answer.content  # noqa: B018 - read, so that the connection can be used again
    answer.close()
    connection: Any = getattr(answer, "connection")  # noqa: B009 - requests' own type does not have it
    again: requests.Response = connection.send(request, **options)
    again.history.append(answer)
    again.request = request
    return again
