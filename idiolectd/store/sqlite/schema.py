"""The tables: upstream's as it is, ours beside it.

``sessions`` belongs to upstream: no index and no column of ours on it. ``idiolectd_changes`` says
which rows changed, in which order, whoever changed them: triggers keep it. They must never make a
foreign program's save fail: no JSON functions (a body may be anything), an upsert instead of
``INSERT OR REPLACE`` (the outer statement's conflict clause would override it), nothing but tables
and built-in functions that an untrusting connection allows.

``idiolectd_state`` holds each session's refresh state, and beside it the session's entry in the schedule (due
time, end of the access token, server). Its ``seq`` is the record's change for which that entry was made (0: none
was recorded). Where it is that of ``idiolectd_changes``, the entry can be relied on, and nobody has to parse the
record.

``idiolectd_unseen`` lists the sessions of which that is not so, kept by triggers too, whichever program writes:
a start reads this short list and compares nothing. What was changed before it was there is searched for once,
part by part: up to which row of ``sessions`` is the one number in ``idiolectd_search``.
"""

TABLES = (
    "CREATE TABLE IF NOT EXISTS sessions (did TEXT PRIMARY KEY NOT NULL, body_json TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS idiolectd_changes (did TEXT PRIMARY KEY NOT NULL, seq INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS idiolectd_changes_seq ON idiolectd_changes (seq)",
    (
        "CREATE TABLE IF NOT EXISTS idiolectd_state (did TEXT PRIMARY KEY NOT NULL, state_json TEXT, "
        "seq INTEGER, due_at REAL, expires_at REAL, lane TEXT)"
    ),
    "CREATE INDEX IF NOT EXISTS idiolectd_state_due ON idiolectd_state (due_at)",
)

# One row: see `idiolectd.store.format`. Not among `OURS`: a database without it is of the first format, and
# nothing in it has to be looked at anew.
FORMAT_TABLE = "idiolectd_format"
MAKE_FORMAT = "CREATE TABLE idiolectd_format (version INTEGER NOT NULL, needs TEXT NOT NULL)"
PUT_FORMAT = "INSERT INTO idiolectd_format (version, needs) VALUES (?, ?)"
FORGET_FORMAT = "DELETE FROM idiolectd_format"
LOAD_FORMAT = "SELECT version, needs FROM idiolectd_format"

_RECORD = (
    "INSERT INTO idiolectd_changes (did, seq) "
    "VALUES ({row}.did, (SELECT coalesce(max(seq), 0) + 1 FROM idiolectd_changes)) "
    "ON CONFLICT (did) DO UPDATE SET seq = excluded.seq;"
)

# As SQLite keeps their text: a trigger with another text is not ours, and is made anew.
TRIGGERS = {
    name: f"CREATE TRIGGER {name} AFTER {event} ON sessions BEGIN {_RECORD.format(row=row)} END"
    for name, event, row in (
        ("idiolectd_sessions_insert", "INSERT", "new"),
        ("idiolectd_sessions_update", "UPDATE", "new"),
        ("idiolectd_sessions_rename", "UPDATE OF did", "old"),
        ("idiolectd_sessions_delete", "DELETE", "old"),
    )
}

# What came later, in a database that an older idiolectd made: nothing has to be looked at anew for it, and
# older ones go on working with it. They leave the two columns as they are, so what the columns say is a
# hint: whoever finds a session by them reads its record.
#
# - ``handle``: what the account is called, as it is compared; empty: nothing. NULL: not known.
# - ``attention``: see `idiolectd.state.attention`. NULL: not known.
LATER_COLUMNS = ("handle", "attention")
STATE_COLUMNS = "SELECT name FROM pragma_table_info('idiolectd_state')"
ADD_COLUMN = "ALTER TABLE idiolectd_state ADD COLUMN {name} TEXT"
LATER_INDEXES = {
    "idiolectd_state_handle": (
        "CREATE INDEX idiolectd_state_handle ON idiolectd_state (handle) WHERE handle IS NOT NULL"
    ),
    # Nearly all sessions are well: none of their rows is in it, so no refresh writes its pages.
    "idiolectd_state_attention": (
        "CREATE INDEX idiolectd_state_attention ON idiolectd_state (attention) WHERE attention IS NOT ''"
    ),
}

# The list of unseen changes. A commit of ours writes the state before the record, with the number that the
# record's change will get: then the change is no news, and the list is not touched.
UNSEEN_TABLES = {
    "idiolectd_unseen": "CREATE TABLE idiolectd_unseen (did TEXT PRIMARY KEY NOT NULL)",
    "idiolectd_search": "CREATE TABLE idiolectd_search (after_rowid INTEGER NOT NULL)",
}
_ADD_UNSEEN = "INSERT INTO idiolectd_unseen (did) {select} ON CONFLICT (did) DO NOTHING"
_IS_NEWS = "new.seq IS NOT (SELECT seq FROM idiolectd_state WHERE did = new.did)"
_RECORD_OF_OLD = "SELECT 1 FROM sessions WHERE did = old.did"
_STATE_OF_OLD = "SELECT 1 FROM idiolectd_state WHERE did = old.did"
_CHANGED = _ADD_UNSEEN.format(
    select="SELECT new.did WHERE EXISTS (SELECT 1 FROM idiolectd_state WHERE did = new.did) "
    "OR EXISTS (SELECT 1 FROM sessions WHERE did = new.did)"
)
_PLANNED = "; ".join(
    (
        "DELETE FROM idiolectd_unseen WHERE new.seq IS NOT NULL AND did = new.did",
        _ADD_UNSEEN.format(select="SELECT new.did WHERE new.seq IS NULL"),
    )
)
_GONE = "DELETE FROM idiolectd_unseen WHERE did = old.did"
UNSEEN_TRIGGERS = {
    f"idiolectd_unseen_{name}": (
        f"CREATE TRIGGER idiolectd_unseen_{name} AFTER {event} {condition}BEGIN {statements}; END"
    )
    for name, event, condition, statements in (
        ("changed", "INSERT ON idiolectd_changes", f"WHEN {_IS_NEWS} ", _CHANGED),
        ("changed_again", "UPDATE OF seq ON idiolectd_changes", f"WHEN {_IS_NEWS} ", _CHANGED),
        ("planned", "INSERT ON idiolectd_state", "", _PLANNED),
        ("planned_again", "UPDATE OF seq ON idiolectd_state", "", _PLANNED),
        ("forgotten", "DELETE ON idiolectd_state", f"WHEN NOT EXISTS ({_RECORD_OF_OLD}) ", _GONE),
        ("gone", "DELETE ON sessions", f"WHEN NOT EXISTS ({_STATE_OF_OLD}) ", _GONE),
    )
}
UNSEEN = (
    "SELECT rowid, did FROM idiolectd_unseen WHERE rowid > ? AND length(did) <= 2048 ORDER BY rowid LIMIT ?"
)

COUNT_UNSEEN = "SELECT count(*) FROM (SELECT 1 FROM idiolectd_unseen LIMIT 1)"
ADD_UNSEEN = _ADD_UNSEEN.format(select="VALUES (CAST(? AS TEXT))")

# The search. Each step looks at some rows of `sessions`; the last one at states whose records are gone. Where no
# change was recorded, it is enough that there is a state: that is looked up in an index, and no state is read.
BEFORE_ALL_ROWS = -(2**63)
BEGIN_SEARCH = "INSERT INTO idiolectd_search (after_rowid) VALUES (?)"
SEARCHED = "SELECT min(after_rowid) FROM idiolectd_search"
END_SEARCH = "DELETE FROM idiolectd_search"
NEXT_ROWS = "SELECT max(rowid) FROM (SELECT rowid FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?)"
SEARCH = (
    "SELECT s.did FROM sessions AS s LEFT JOIN idiolectd_changes AS c ON c.did = s.did "
    "WHERE s.rowid > ? AND s.rowid <= ? AND length(s.did) <= 2048 AND CASE WHEN c.seq IS NULL "
    "THEN NOT EXISTS (SELECT 1 FROM idiolectd_state AS i WHERE i.did = s.did) "
    "ELSE NOT EXISTS (SELECT 1 FROM idiolectd_state AS i WHERE i.did = s.did AND i.seq >= c.seq) END"
)
SEARCH_GONE = (
    "SELECT i.did FROM idiolectd_state AS i WHERE length(i.did) <= 2048 "
    "AND NOT EXISTS (SELECT 1 FROM sessions AS s WHERE s.did = i.did)"
)

FIND_OURS = (
    "SELECT name, sql FROM sqlite_master WHERE name LIKE 'idiolectd!_%' ESCAPE '!' OR name = 'sessions'"
)
OURS = frozenset(TRIGGERS) | {
    "sessions",
    "idiolectd_changes",
    "idiolectd_changes_seq",
    "idiolectd_state",
    "idiolectd_state_due",
}

# While the triggers were missing anything may have happened: every row counts as changed, and no
# entry in the schedule can be relied on.
RESCANNED = ("sessions", "idiolectd_state")
ROWIDS = "SELECT min(rowid), max(rowid) FROM {table}"
RESCAN = (
    "INSERT INTO idiolectd_changes (did, seq) "
    "SELECT did, (SELECT coalesce(max(seq), 0) FROM idiolectd_changes) + row_number() OVER (ORDER BY rowid) "
    "FROM {table} WHERE rowid BETWEEN ? AND ? ON CONFLICT (did) DO UPDATE SET seq = excluded.seq"
)
FORGET_SCHEDULE = "UPDATE idiolectd_state SET seq = NULL"

TABLE_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
SESSIONS_COLUMNS = "SELECT name FROM pragma_table_info('sessions')"
HAS_TABLE = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
COUNT = "SELECT count(*) FROM sessions"
KEYS = "SELECT did FROM sessions"
# By the table's own index, so that no page of records is read. What can't be a DID is left out.
PAGE_OF_KEYS = (
    "SELECT did FROM sessions WHERE did > CAST(? AS TEXT) AND did < 'did;' AND length(did) <= 2048 "
    "ORDER BY did LIMIT ?"
)
KEY_ROWIDS = "SELECT rowid FROM sessions"
KEY = "SELECT did FROM sessions WHERE rowid = ?"
LOAD = "SELECT body_json FROM sessions WHERE did = ?"
LOAD_STATE = "SELECT state_json FROM idiolectd_state WHERE did = ?"
PAGE = "SELECT rowid, did, body_json FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?"
# For backups: both texts of a session, of one moment.
COPIES = (
    "SELECT s.rowid, s.did, s.body_json, i.state_json FROM sessions AS s "
    "LEFT JOIN idiolectd_state AS i ON i.did = s.did WHERE s.rowid > ? AND length(s.did) <= 2048 "
    "ORDER BY s.rowid LIMIT ?"
)
PAGE_ROWIDS = "SELECT rowid FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?"
ONE = "SELECT rowid, did, body_json FROM sessions WHERE rowid = ?"

_ENTRY = (
    "SELECT s.body_json, i.state_json{more} FROM (SELECT ? AS did) AS asked "
    "LEFT JOIN sessions AS s ON s.did = asked.did LEFT JOIN idiolectd_state AS i ON i.did = asked.did{joined}"
)
ENTRY = _ENTRY.format(more="", joined="")
# For whoever writes next: also how the state's row stands, and the numbers of the record's last change and the
# next one.
ENTRY_TO_WRITE = _ENTRY.format(
    more=", i.handle, i.due_at, i.expires_at, i.lane, c.seq, "
    "(SELECT coalesce(max(seq), 0) + 1 FROM idiolectd_changes)",
    joined=" LEFT JOIN idiolectd_changes AS c ON c.did = asked.did",
)
# SQLite takes anything anywhere; a page full of keys that are no DIDs must not look like the last one.
DUE = (
    "SELECT due_at, did, expires_at, lane FROM idiolectd_state "
    "WHERE due_at < ? AND (due_at, did) > (?, ?) AND typeof(did) = 'text' AND did GLOB 'did:*' ORDER BY due_at, did LIMIT ?"
)

# States without a due time, found by the index of due times; and a part of the records, with whether they have one.
WITHOUT_DUE_TIME = (
    "SELECT rowid, did FROM idiolectd_state WHERE due_at IS NULL AND rowid > ? AND length(did) <= 2048 "
    "ORDER BY rowid LIMIT ?"
)
PART_OF_RECORDS = (
    "SELECT s.rowid, s.did, i.due_at IS NOT NULL FROM sessions AS s "
    "LEFT JOIN idiolectd_state AS i ON i.did = s.did WHERE s.rowid > ? AND length(s.did) <= 2048 "
    "ORDER BY s.rowid LIMIT ?"
)

# By the indexes: who may be called so, how many sessions are well, and which of the others are to be read.
CALLED = "SELECT did FROM idiolectd_state WHERE handle = ?"
COUNT_STATES = "SELECT count(*) FROM idiolectd_state"
# With the index's own condition, without which SQLite reads all rows.
COUNT_UNKNOWN = "SELECT count(*) FROM idiolectd_state WHERE attention IS NULL AND attention IS NOT ''"
COUNT_NEEDY = "SELECT attention, count(*) FROM idiolectd_state WHERE attention IS NOT '' GROUP BY attention"
NEEDY = "SELECT did FROM idiolectd_state WHERE attention IS NOT '' ORDER BY attention DESC LIMIT ?"
COUNT_DUE = "SELECT count(*) FROM idiolectd_state WHERE due_at <= ? AND attention = ''"
DUE_SINCE = "SELECT did FROM idiolectd_state WHERE due_at <= ? AND attention = '' ORDER BY due_at LIMIT ?"

LAST_CHANGE = "SELECT coalesce(max(seq), 0) FROM idiolectd_changes"
CHANGES = "SELECT did, seq FROM idiolectd_changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
CHANGE_NUMBERS = "SELECT seq FROM idiolectd_changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
ALL_KEYS = "SELECT rowid, did FROM sessions WHERE rowid > ? AND length(did) <= 2048 ORDER BY rowid LIMIT ?"

# Upstream's own statement.
PUT_RECORD = (
    "INSERT INTO sessions (did, body_json) VALUES (?, ?) "
    "ON CONFLICT(did) DO UPDATE SET body_json = excluded.body_json"
)
DELETE_RECORD = "DELETE FROM sessions WHERE did = ?"
_INSERT_STATE = (
    "INSERT INTO idiolectd_state (did, state_json, attention, seq, handle, due_at, expires_at, lane) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
PUT_STATE = _INSERT_STATE + (
    " ON CONFLICT (did) DO UPDATE SET state_json = excluded.state_json, attention = excluded.attention, "
    "seq = excluded.seq, handle = excluded.handle, due_at = excluded.due_at, expires_at = excluded.expires_at, "
    "lane = excluded.lane"
)
# Naming a column that stays as it is would write the pages of its index again.
_UPDATE_STATE = "UPDATE idiolectd_state SET state_json = ?, attention = ?, seq = ?{more} WHERE did = ?"
UPDATE_STATE = _UPDATE_STATE.format(more="")
UPDATE_STATE_AND_SCHEDULE = _UPDATE_STATE.format(more=", due_at = ?, expires_at = ?, lane = ?")
# For a save that left the tokens alone: the given entry counts only where there was none.
PUT_STATE_KEEPING_SCHEDULE = _INSERT_STATE + (
    " ON CONFLICT (did) DO UPDATE SET state_json = excluded.state_json, attention = excluded.attention, "
    "handle = excluded.handle, seq = NULL, due_at = coalesce(due_at, excluded.due_at), "
    "expires_at = coalesce(expires_at, excluded.expires_at), lane = coalesce(lane, excluded.lane)"
)
# See `idiolectd.store.sqlite.adoption`. The expiry is looked for where and as idiolect-oauth writes it, near the
# end of the record, without counting its characters: that costs a twentieth of parsing. Others are parsed.
COUNT_BOTH = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM idiolectd_state)"
_NEW_BY_EXPIRY = (
    "SELECT s.rowid FROM sessions AS s WHERE NOT EXISTS (SELECT 1 FROM idiolectd_state AS i WHERE i.did = s.did) "
    "ORDER BY CASE WHEN instr({tail}, {name}) > 0 THEN CAST(substr({tail}, instr({tail}, {name}) + 13, 24) AS TEXT) "
    "WHEN json_valid(s.body_json) THEN coalesce(json_extract(s.body_json, '$.expiresAt'), '') ELSE '' END"
)
NEW_BY_EXPIRY = _NEW_BY_EXPIRY.format(
    tail="substr(CAST(s.body_json AS BLOB), -1000)", name='CAST(\'"expiresAt":"\' AS BLOB)'
)
NEW_PAGE = (
    "SELECT s.did, s.body_json FROM sessions AS s WHERE s.rowid IN ({marks}) "
    "AND NOT EXISTS (SELECT 1 FROM idiolectd_state AS i WHERE i.did = s.did) "
    "AND typeof(s.body_json) = 'text' AND length(s.did) <= 2048"
)
PUT_FIRST_STATE = (
    "INSERT INTO idiolectd_state (did, state_json, attention, seq, handle, due_at, expires_at, lane) "
    "WITH new (did, state_json, attention, seq, handle, due_at, expires_at, lane, body_json) "
    "AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)) "
    "SELECT did, state_json, attention, coalesce((SELECT c.seq FROM idiolectd_changes AS c WHERE c.did = new.did), 0), "
    "handle, due_at, expires_at, lane FROM new WHERE EXISTS (SELECT 1 FROM sessions AS s WHERE s.did = new.did AND "
    "s.body_json = new.body_json) ON CONFLICT (did) DO NOTHING"
)
# Writes a row as large as a record. It is nobody's: its key is not a DID.
TRY_TO_WRITE = (
    "INSERT INTO idiolectd_state (did, state_json, seq) VALUES ('', hex(zeroblob(2048)), 0) "
    "ON CONFLICT (did) DO UPDATE SET state_json = excluded.state_json"
)
TRIED_TO_WRITE = "DELETE FROM idiolectd_state WHERE did = ''"
RESEAL_STATE = "UPDATE idiolectd_state SET state_json = ? WHERE did = ?"
DELETE_STATE = "DELETE FROM idiolectd_state WHERE did = ?"
