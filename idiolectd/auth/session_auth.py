"""What the `SessionAuth` of every HTTP library has in common: its arguments, and how it carries out most steps.

An adapter (`idiolectd.adapters`) adds what only its library can do: to send, and to read bodies. Nothing here
writes a record or takes a lock, unless ``refresh=True`` lets it refresh the session.
"""

import threading
import time
from collections.abc import Collection
from importlib import import_module
from typing import Any

from idiolectd.auth.auth_flow import AuthFlow, AuthOptions
from idiolectd.auth.destination import parse_origins
from idiolectd.auth.servers import Servers
from idiolectd.auth.session_source import SessionSource, Store
from idiolectd.auth.steps import Explain, Load, Pause, Renew, RequestBody, Steps, Tell, Work
from idiolectd.clock import SystemClock
from idiolectd.errors import ConfigError, RefreshError, TokenRefused, missing_extra

_SERVERS = Servers()

_SYNC_REFRESH = (
    "SessionAuth(refresh=True) needs an async client: a refresh is finished in an event loop, whatever"
    " happens to the request; leave refreshing to idiolectd, or use an async client"
)


class SessionAuthBase:
    """An account's session, as the source of what authorizes requests. See `idiolectd.SessionAuth`."""

    def __init__(
        self,
        store: Store,
        account: str,
        *,
        patience: float = 10.0,
        refresh: bool = False,
        also: Collection[str] = (),
        servers: Servers | None = None,
    ) -> None:
        self._source = SessionSource(store, account)
        self._options = AuthOptions(also=parse_origins(also), patience=patience, refresh=refresh)
        self._servers = _SERVERS if servers is None else servers
        self._clock = SystemClock()
        self._renewing = threading.Lock()
        if refresh:
            if not self._source.is_shared:
                raise ConfigError(
                    f"refresh=True needs a store that can be claimed; {self._source.place} can't be"
                )
            _check_installed()

    def __repr__(self) -> str:
        return f"<SessionAuth {self._source.account} in {self._source.place}>"

    def _steps(self, method: str, url: str, body: RequestBody) -> Steps[None]:
        """The steps of one request."""
        flow = AuthFlow(method, url, body, options=self._options, servers=self._servers, clock=self._clock)
        return flow.steps()

    def _check_may_block(self) -> None:
        if self._options.refresh:
            raise RefreshError(_SYNC_REFRESH)

    def _do(self, step: Work) -> Any:
        """Carries out a step that needs no HTTP library. Blocks."""
        match step:
            case Load():
                return self._source.load()
            case Pause(seconds=seconds):
                return time.sleep(seconds)
            case Tell(session=session):
                return self._source.tell_refusal(session)
            case Explain():
                return self._explained(step)
            case _:
                raise TypeError(step)

    async def _ado(self, step: Work) -> Any:
        """As `_do`, without blocking."""
        match step:
            case Load():
                return await self._source.aload()
            case Pause(seconds=seconds):
                import anyio  # here, because programs without an event loop have no use for it

                return await anyio.sleep(seconds)
            case Renew(refused=refused):
                return await self._renew(refused)
            case _:
                return self._do(step)

    async def _renew(self, refused: str | None) -> bool:
        # One request of this object renews at a time; the others, in any event loop, watch the record
        # meanwhile.
        if not self._renewing.acquire(blocking=False):
            return False
        try:
            from idiolectd.auth.renewal import renew

            await renew(self._source.place, self._source.account, refused)
        finally:
            self._renewing.release()
        return True

    def _explained(self, step: Explain) -> TokenRefused:
        from idiolectd.auth.refusal_explanation import explain_refusal  # rarely needed

        return explain_refusal(step, self._source.reading, place=self._source.place, now=self._clock.now())


def _check_installed() -> None:
    try:
        import_module("idiolectd.parts")
    except ModuleNotFoundError as missing:
        raise ConfigError(f"refresh=True can't be used: {missing_extra(missing)}") from missing
