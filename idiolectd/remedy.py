"""What a person does for a session that needs one: the command to type, and what comes before it.

`remedy_for` is the only place that chooses. A command is complete: it names the account, and the store and the
configuration wherever the command alone would not find them. Commands are shown and logged, never run.
docs/runbook.md says the same by cause; a test compares.
"""

import shlex
from dataclasses import dataclass

from idiolectd.outcome import Cause, Remedy, remedy_of
from idiolectd.session import OAuthSession
from idiolectd.state import State


@dataclass(frozen=True)
class Action:
    """What a person does.

    Attributes:
        command: what to type.
        advice: what to do or to know before; None: nothing.
    """

    command: str
    advice: str | None = None


@dataclass(frozen=True)
class Commands:
    """How commands are typed on this host.

    Attributes:
        options: what every command needs to find this store and configuration, such as ``--store URL``.
    """

    options: tuple[str, ...] = ()

    def typed(self, *words: str) -> str:
        """Returns the command line of these words, quoted for a shell."""
        return shlex.join(("idiolectd", *words, *self.options))

    def login(self, did: str, session: OAuthSession | None) -> str:
        """Returns the login that replaces a session: in the browser, or with an app password as before."""
        by_password = session is not None and session.kind == "bearer"
        return self.typed("login", did, *(("--app-password",) if by_password else ()))


PLAIN = Commands()


def remedy_for(
    did: str,
    state: State,
    cause: str | None,
    *,
    session: OAuthSession | None = None,
    commands: Commands = PLAIN,
) -> Action | None:
    """Returns what a person does for a session that can be read; None: nothing.

    Args:
        did: whose session.
        state: the session's state.
        cause: why it is in it.
        session: the record, for its kind and what it names; None: not known.
        commands: how commands are typed here.
    """
    match state:
        case State.RELOGIN_REQUIRED:
            remedy = Remedy.REMOVE if cause == Cause.ACCOUNT_DELETED else Remedy.LOGIN
        case State.SUSPENDED:
            remedy = remedy_of(cause)
        case State.UNPERSISTED:
            return Action(commands.typed("check"), _UNPERSISTED)
        case State.QUARANTINED:
            return Action(commands.typed("check"))
        case _:
            return None
    advice = ADVICE.get(cause or "")
    if advice is not None:
        advice = advice.format(
            client_id=(session and session.client_id) or "the client that the session was started with",
            key_id=(session and session.client_key_id) or "it was started with",
            pds_url=session.pds_url if session else "the PDS",
            did=did,
        )
    if remedy is Remedy.LOGIN:
        return Action(commands.login(did, session), advice)
    return Action(commands.typed(*remedy.value.format(did=did).split()), advice)


def remedy_for_unreadable(did: str | None, place: str, *, commands: Commands = PLAIN) -> Action:
    """Returns what a person does for a record that can't be read.

    Args:
        did: whose record it is; None: not even that can be told.
        place: the file, or the database and its row.
        commands: how commands are typed here.
    """
    if did is None:
        return Action(commands.typed("check"), f"repair {place} or remove it: it is no session")
    advice = "repair it where it lies, or log in again, which replaces it, or remove it"
    return Action(commands.typed("logout", did, "--local"), advice)


_UNPERSISTED = "new tokens are held and can't be saved: make room on the disk, or mend it; check says where"

# What to do or to know before typing the command, in ``{}`` what the record names.
ADVICE: dict[str, str] = {
    Cause.ACCOUNT_DELETED: "the server knows no such account; if that is right, remove its session here",
    Cause.ACCOUNT_MOVED: "the account is at another PDS now: log in there",
    Cause.ACCOUNT_TAKEN_DOWN: "the server has taken the account down: only its operators can undo that; then",
    Cause.ANSWER_MISMATCH: "log in again, then end the unknown session in the account's settings",
    Cause.ANSWER_UNCONFIRMED: "log in again, then end the unknown session in the account's settings",
    Cause.CLIENT_KEY_MISSING: "add the key {key_id} to oauth.clients for {client_id}, then",
    Cause.CLIENT_KEY_UNUSABLE: "make the key {key_id} of {client_id} readable (oauth.clients), then",
    Cause.CLIENT_MISMATCH: "set oauth.client_id to {client_id}, or put the record right, then",
    Cause.CLIENT_REFUSED: "see that the server can fetch {client_id} (idiolectd client check), then",
    Cause.CLIENT_UNKNOWN: "set oauth.client_id to {client_id}, then",
    Cause.PDS_REFUSED: "allow {pds_url} under network (allow_addresses, allow_loopback_http), then",
    Cause.REPLAYED: "stop the other program that refreshes this session: it would end the next one too",
    Cause.RESTORED_COPY: (
        "it came back from an old copy; if no newer one lives anywhere, try it once: idiolectd refresh --revive"
        " {did}; else"
    ),
    Cause.REVOKED: "somebody has ended the session; if that was an app password's end, make a new one",
    Cause.SCOPE_REFUSED: "let the document of {client_id} allow the session's scope, then",
    Cause.WRONG_CLIENT: "set oauth.client_id to the client to log in with",
    Cause.WRONG_CLIENT_KEY: "configure the key to log in with in oauth.clients",
}
