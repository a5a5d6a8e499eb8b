"""Tells what a large folder holds without reading each file: by its index, and the files that are others now.

Everything here blocks, and takes no lock.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from idiolectd.errors import RecordError, SealedError
from idiolectd.ports import NewRecord, Overview, StoredCopy, Survey
from idiolectd.state import RefreshState
from idiolectd.store.files.bounded import read_bounded
from idiolectd.store.files.file_names import did_of
from idiolectd.store.files.folder import Folder
from idiolectd.store.files.folder_index import FolderIndex, Look, look
from idiolectd.store.record_text import MAX_RECORD

_EXPIRY = re.compile(rb'"expiresAt"\s*:\s*"([^"]{0,40})"')


def survey(folder: Folder, index: FolderIndex) -> Survey:
    """All records. One that is as it was when it was last looked at is readable."""
    known = index.looks(folder.listed())
    others = folder.survey(but=known.keys())
    return replace(others, dids=sorted({*others.dids, *(each.did for each in known.values())}))


def overview(folder: Folder, index: FolderIndex, now: float, limit: int) -> Overview | None:
    """See `SharedStore.overview`; None: there is no index.

    Args:
        folder: whose sessions.
        index: what is known of them.
        now: seconds since the epoch.
        limit: how many DIDs to name, and how many sessions to read that are not as the index knows them.
    """
    listed = folder.listed()
    looks = index.looks(listed)
    if not looks:
        return None
    unseen = folder.dids_of(sorted(listed.keys() - looks.keys()))
    for did in unseen[:limit]:
        found = _look_at(folder, did, now)
        if found is not None:
            looks[found.name] = found
    seen = {each.did for each in looks.values()}
    unseen = [did for did in unseen if did not in seen]
    needy = sorted(
        (each for each in looks.values() if each.attention), key=lambda each: each.attention, reverse=True
    )
    due = [each for each in looks.values() if not each.attention and each.at is not None and each.at <= now]
    counts = Counter(each.attention for each in needy)
    if unseen:
        counts[""] = len(unseen)
    dids = [*(each.did for each in needy), *unseen, *(each.did for each in sorted(due, key=_at))]
    return Overview(len(listed), counts, len(due), dids[:limit])


def _at(planned: Look) -> float:
    return planned.at or 0.0


def _look_at(folder: Folder, did: str, now: float) -> Look | None:
    """What a session is now; None: nothing is known of it, or it can't be read."""
    with suppress(RecordError, SealedError):
        found, state = folder.locate(did), folder.state(did, now)
        if found.session is not None and found.content is not None and state != RefreshState():
            seen = look(found.path.name, found.session, state, (found.content.stamp, found.content.stamp))
            return seen._replace(at=state.next_attempt_at)
    return None


def new_names(folder: Folder) -> list[str]:
    """The records' names without a state; those are left out whose DID only their content tells."""
    states = folder.state_names()
    return [name for name in folder.names() if name not in states and did_of(name) is not None]


def by_expiry(folder: Folder, names: Sequence[str]) -> list[str]:
    """Sorts records, soonest expiry first as far as their text shows it; those that show none come first."""
    return sorted(names, key=lambda name: _expiry(folder, name))


def _expiry(folder: Folder, name: str) -> bytes:
    with suppress(RecordError):
        content = read_bounded(folder.root / name, MAX_RECORD, None)
        found = _EXPIRY.search(content.text) if content is not None else None
        if found is not None:
            return found[1]
    return b""


def copies(folder: Folder, names: Sequence[str]) -> list[StoredCopy]:
    """The sessions of these records as they lie there, damaged ones too if it can be told whose they are."""
    found = []
    for did in folder.dids_of(names):
        record = folder.locate(did)
        with suppress(RecordError):  # larger than any session, or no file
            content = record.content or read_bounded(record.path, MAX_RECORD, did)
            state = folder.state_content(did)
            if content is not None:
                found.append(StoredCopy(did, content.text, None if state is None else state.text))
    return found


def read_new(folder: Folder, names: Sequence[str]) -> list[NewRecord]:
    """The sessions of these records. Leaves out what is unreadable: a watch names it."""
    found = (folder.locate(did) for name in names if (did := did_of(name)) is not None)
    return [
        NewRecord(each.session, each.content.text)
        for each in found
        if each.session is not None and each.content is not None
    ]
