"""Chooses the form of each entry by the names of its fields, and makes the sessions."""

from collections.abc import Iterable, Mapping, Sequence

from idiolectd.errors import SessionError
from idiolectd.moving.columns import columns_form
from idiolectd.moving.cookbook import COOKBOOK
from idiolectd.moving.form import Form
from idiolectd.moving.found import Entry, Found, Unusable
from idiolectd.moving.goat import GOAT
from idiolectd.moving.indigo import INDIGO
from idiolectd.moving.node import NODE
from idiolectd.moving.record import RECORD
from idiolectd.moving.session_string import SESSION_STRING
from idiolectd.session import OAuthSession

# The first that fits is an entry's; the last has no names of its own.
FORMS: Sequence[Form] = (RECORD, NODE, INDIGO, COOKBOOK, SESSION_STRING, GOAT, columns_form({}))


def form_named(name: str) -> Form:
    """Returns the form that ``--form`` names; `KeyError` if there is none."""
    return {form.name: form for form in FORMS}[name]


def with_columns(names: Mapping[str, str]) -> Form:
    """Returns the form of a source whose columns are called so."""
    return columns_form(names)


def read_sessions(entries: Iterable[Entry | Unusable], form: Form | None = None) -> list[Found | Unusable]:
    """Makes the sessions of a source's entries.

    Of two entries of one account the later one is unusable: which of them lives, nobody can tell.

    Args:
        entries: what was found in the source.
        form: what all of them are; None: each is what it looks like.
    """
    found: list[Found | Unusable] = []
    seen: dict[str, str] = {}
    for entry in entries:
        one = entry if isinstance(entry, Unusable) else _read(entry, form)
        if isinstance(one, Found):
            first = seen.setdefault(one.session.did, one.where)
            if first != one.where:
                why = f"{one.session.did} was found before ({first}): leave one of the two in the source"
                one = Unusable(one.where, why, one.form)
        found.append(one)
    return found


def _read(entry: Entry, wanted: Form | None) -> Found | Unusable:
    form = wanted or next((form for form in FORMS if form.fits(entry.fields)), None)
    if form is None:
        return Unusable(entry.where, "no session of any known form: name its columns (--column)")
    try:
        session = _session(entry, form)
    except SessionError as error:
        return Unusable(entry.where, str(error), form.name)
    return Found(entry.where, form.name, session, form.advice(entry) if form.advice else None)


def _session(entry: Entry, form: Form) -> OAuthSession:
    if not form.fits(entry.fields):
        raise SessionError(f"not a session of {form.program}")
    session = form.session(entry)
    if entry.did not in (None, session.did):
        raise SessionError(f"it is kept under {entry.did}, and is a session of {session.did}")
    return session
