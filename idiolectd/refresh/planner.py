"""When a session is worked on next: the one place that plans, and turns a plan into a schedule entry."""

from collections.abc import Callable
from dataclasses import dataclass

from idiolectd import policy
from idiolectd.clock import parse_rfc3339
from idiolectd.did import directory
from idiolectd.errors import UrlError
from idiolectd.policy import Policy
from idiolectd.ports import ScheduleEntry
from idiolectd.session import OAuthSession
from idiolectd.state import RefreshState, State, TokenTimes, latest_end, session_deadline, session_end
from idiolectd.url import Url

# For sessions whose records name no usable URL: nothing is ever sent for them, so they share one queue.
_NO_SERVER = "(no URL)"

# How often DID → PDS → issuer is compared while nothing goes wrong: accounts move rarely.
_IDENTITY_INTERVAL = 7 * 86400.0


@dataclass(frozen=True)
class Planner:
    """Plans by the configured policy. Each method returns the state with its next attempt.

    Attributes:
        policy: the configured timing.
        session_life: how long a session may live in all, in seconds; by issuer and kind of client.
        luck: a source of numbers in [0, 1), for the jitter of retries.
    """

    policy: Policy
    session_life: Callable[[OAuthSession], float]
    luck: Callable[[], float]

    def fresh(self, session: OAuthSession, state: RefreshState, now: float) -> RefreshState:
        """Plans tokens that nobody has tried to refresh yet."""
        times = TokenTimes.of(session, state, now)
        ending = self.is_ending(session, times)
        # No refresh can extend it: one last attempt, so that the server says how it ended.
        at = times.expires_at if ending else self.due_at(session, times)
        rotated_at = state.last_success_at
        if rotated_at is not None and rotated_at <= now:  # else a clock was set
            at = max(at, rotated_at + policy.ROTATION_FLOOR)
        warned = 0.0 if ending else self._warning(session, state, now)
        return state.planned_to_end(at, ending=ending, warned=warned)

    def retry(
        self, session: OAuthSession, state: RefreshState, now: float, retry_after: float | None = None
    ) -> RefreshState:
        """Plans after a failure that may pass."""
        left = TokenTimes.of(session, state, now).expires_at - now
        delay = policy.retry_delay(
            attempts=state.attempts, left=left, luck=self.luck(), retry_after=retry_after
        )
        if self._is_over(session, now):
            delay = max(delay, policy.slow_delay(pause=policy.SLOW_RETRY, left=left))
        return state.planned(now + delay)

    def refused(
        self,
        session: OAuthSession,
        state: RefreshState,
        now: float,
        *,
        is_useless: bool,
        retry_after: float | None = None,
    ) -> RefreshState:
        """Plans after a refusal that is no verdict yet; `is_useless`: the PDS refuses the access token too."""
        delay = policy.refusal_delay(
            self.policy,
            age=0.0 if state.refused_since is None else now - state.refused_since,
            left=TokenTimes.of(session, state, now).expires_at - now,
            luck=self.luck(),
            is_useless=is_useless,
            retry_after=retry_after,
        )
        return state.planned(now + delay)

    def slow(self, session: OAuthSession, state: RefreshState, now: float, *, asked: bool) -> RefreshState:
        """Plans what a person must mend: it is tried now and then, in case somebody has.

        Args:
            session: the suspended one.
            state: its state.
            now: seconds since the epoch.
            asked: the server said so; else our own checks did, which cost no server anything.
        """
        pause = policy.SLOW_RETRY if asked else policy.LOCAL_RETRY
        left = TokenTimes.of(session, state, now).expires_at - now
        return state.planned(now + policy.slow_delay(pause=pause, left=left))

    def settle_or_retry(self, session: OAuthSession, state: RefreshState, now: float) -> RefreshState:
        """Plans while an answer is missing: not before the request can't be in flight any more.

        From the second unclear answer in a row on, and when nobody could tell what became of one, the pause
        is at least as long as after any other failure.
        """
        settled_at = state.note.at + self.policy.settle if state.note is not None else now
        if settled_at > now and state.attempts <= 1:
            return state.planned(settled_at)
        planned = self.retry(session, state, now)
        return planned.planned(max(settled_at, planned.next_attempt_at or now))

    @staticmethod
    def never(state: RefreshState) -> RefreshState:
        """Plans a dead session: nothing."""
        return state.planned(None)

    def deadline(self, session: OAuthSession) -> float | None:
        """Returns the absolute end of the session, if its start is known."""
        return session_deadline(session, self.session_life(session))

    def end_to_warn_of(self, session: OAuthSession, state: RefreshState) -> float | None:
        """Returns when the session ends; if nobody knows its start, at the latest."""
        deadline = self.deadline(session)
        return latest_end(session, state, self.session_life(session)) if deadline is None else deadline

    def due_at(self, session: OAuthSession, times: TokenTimes) -> float:
        """Returns when these tokens should be refreshed."""
        return policy.due_at(
            self.policy,
            issued_at=times.issued_at,
            expires_at=times.expires_at,
            token_hash=session.refresh_token_hash,
        )

    def could_be_refreshed_by(self, times: TokenTimes, now: float) -> bool:
        """Whether a program with this policy may have refreshed these tokens by now."""
        begin, _ = self.policy.window
        return now >= times.issued_at + begin * (times.expires_at - times.issued_at)

    def is_ending(self, session: OAuthSession, times: TokenTimes) -> bool:
        """Whether the session's absolute end is nearer than a refresh could move its tokens'."""
        return policy.is_ending(expires_at=times.expires_at, deadline=self.deadline(session))

    def is_needed(self, session: OAuthSession, state: RefreshState, now: float) -> bool:
        """Whether a client should not start to use these tokens any more."""
        times = TokenTimes.of(session, state, now)
        return policy.is_needed(issued_at=times.issued_at, expires_at=times.expires_at, now=now)

    def _warning(self, session: OAuthSession, state: RefreshState, now: float) -> float | None:
        deadline = self.end_to_warn_of(session, state)
        if deadline is None:
            return None
        return policy.end_warning(left=deadline - now, lifetime=self.session_life(session))

    def _is_over(self, session: OAuthSession, now: float) -> bool:
        end = session_end(session, self.session_life(session))
        return end is not None and now > end


def schedule_entry(session: OAuthSession, state: RefreshState, now: float) -> ScheduleEntry | None:
    """Returns the schedule entry of a planned state; None: nothing is planned."""
    if state.next_attempt_at is None or state.state is State.RELOGIN_REQUIRED or state.paused:
        return None
    return ScheduleEntry(
        at=state.next_attempt_at,
        did=session.did,
        expires_at=TokenTimes.of(session, state, now).expires_at,
        server=server_to_ask(session, state),
    )


def server_to_ask(session: OAuthSession, state: RefreshState) -> str:
    """Returns the server that an attempt asks first: the queue that the session waits in.

    Mostly the issuer. After a refusal the attempt first asks the account's DID directory where the account
    lives now; while it is open whether the tokens are the newest, or whose they are, it asks the PDS. So a
    session waits only behind others that the same server has to answer.
    """
    if is_identity_urgent(state):
        return directory(session.did)
    is_copy = state.is_restored(session) and session.kind == "dpop"
    if is_copy or state.is_unclear(session) or state.unconfirmed is not None or state.displaced is not None:
        return _server(session.pds_url)
    return issuer_server(session)


def issuer_server(session: OAuthSession) -> str:
    """Returns the server that the refresh token goes to, as far as is known: the issuer, else the PDS."""
    return _server(session.issuer if session.kind == "dpop" and session.issuer else session.pds_url)


def _server(url: str) -> str:
    try:
        return Url.parse(url).origin
    except UrlError:
        return _NO_SERVER


def is_identity_urgent(state: RefreshState) -> bool:
    """Whether to ask where the account lives before its refresh token is sent: the last one was refused."""
    return state.refusals > 0 or state.state is State.SUSPENDED


def is_identity_due(session: OAuthSession, state: RefreshState, now: float) -> bool:
    """Whether the account's whereabouts were not asked for a week, or a server's word has put them in doubt.

    No refresh waits for the answer: it may be asked tomorrow as well.
    """
    if state.identity_doubted or (state.identity_checked_at is None and session.confirmed_handle is None):
        return True
    asked_at = state.identity_checked_at or parse_rfc3339(session.session_started_at)  # a login asks, too
    return asked_at is None or now - asked_at > _IDENTITY_INTERVAL
