"""Reads the text of a stored record. Beside nothing else, so that a client program loads little to read one."""

from dataclasses import dataclass, field

from idiolectd.errors import RecordError, SessionError
from idiolectd.session import OAuthSession
from idiolectd.store.sealing import AS_STORED, Keys

# A record is a few KiB. Whatever is larger is not one, and must not fill the memory of all readers.
MAX_RECORD = 1024 * 1024


@dataclass(frozen=True)
class KnownRecord:
    """The text of a record, and what it says: whoever finds the same text need not parse it again."""

    text: bytes = field(repr=False)
    session: OAuthSession


def decode_any(
    text: str | bytes, *, place: str, did: str | None = None, viewed: bool = False, keys: Keys = AS_STORED
) -> OAuthSession:
    """Reads a stored record, whoever's it is.

    Args:
        text: the record.
        place: where it is, for people.
        did: whose it should be, for people.
        viewed: for a client, to whom an entry of a view will do.
        keys: open its secrets; by default they stay as they are stored.

    Raises:
        RecordError: it is too large, or not a session.
        SealedError: the keys don't open it.
    """
    if len(text) > MAX_RECORD:
        raise too_large(place, did)
    try:
        session = OAuthSession.from_json(text, viewed=viewed)
    except SessionError as error:
        raise RecordError(place, str(error), did=did) from error
    return keys.open(session, place)


def decode_record(
    text: str | bytes, *, place: str, did: str, keys: Keys, viewed: bool = False
) -> OAuthSession:
    """Reads the stored record of one DID; the arguments are those of `decode_any`.

    Raises:
        RecordError: it is too large, not a session, or somebody else's.
        SealedError: the keys don't open it.
    """
    session = decode_any(text, place=place, did=did, viewed=viewed)
    if session.did != did:
        raise RecordError(place, f"holds the session of {session.did}, not of {did}", did=did)
    return keys.open(session, place)


def too_large(place: str, did: str | None) -> RecordError:
    """The error for a record beyond `MAX_RECORD`."""
    return RecordError(place, f"larger than {MAX_RECORD} bytes; that is not a session", did=did)
