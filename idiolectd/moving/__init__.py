"""Reads the sessions that other programs keep, and writes them in their forms again.

`source` reads a file, folder or database; `entries` finds what may be a session in it; each form has a module,
which makes a session of an entry, and `forms` chooses among them. Everything but `source` is pure. What can't be
read is named with its reason (`Unusable`) and stops nothing else. Nothing here says whether a session is alive,
or whose: the commands check that.
"""

from idiolectd.moving.form import Form
from idiolectd.moving.forms import FORMS, form_named, read_sessions, with_columns
from idiolectd.moving.found import Entry, Found, Unusable
from idiolectd.moving.source import read_source

__all__ = [
    "FORMS",
    "Entry",
    "Form",
    "Found",
    "Unusable",
    "form_named",
    "read_sessions",
    "read_source",
    "with_columns",
]
