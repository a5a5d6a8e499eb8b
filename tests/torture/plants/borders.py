"""Bugs at the borders: values that others wrote, and words that others read."""

from tests.torture.plants.plant import Edit, Plant

_URL = "tests/core/test_url.py::"
_FOREIGN = "tests/core/test_foreign.py::"
_OUTPUT = "tests/cli/test_output.py::"
_APART = "tests/cli/test_apart.py::"
_SQLITE = "tests/store/test_sqlite.py::"

PLANTS = (
    Plant(
        "a host in any notation",
        10,
        "a proxy is asked for 0x7f.1, which is this machine's own services",
        (Edit("url", "_host", "_NUMERIC.fullmatch(labels[-1])", "labels[-1].isdecimal()"),),
        (_URL + "test_a_number_in_another_notation_is_no_host",),
    ),
    Plant(
        "backslash in a URL",
        10,
        "what one library takes for a password is the host to another",
        (Edit("url", "", ">[^\\\\\\[\\]\\s]*", ">[^\\[\\]\\s]*"),),
        (_URL + "test_what_is_read_differently_elsewhere_is_no_url",),
    ),
    Plant(
        "any port",
        7,
        "one record with port 65536 ends a command for all",
        (Edit("url", "_parsed", "<= _MAX_PORT:", ":"),),
        (_URL + "test_what_is_read_differently_elsewhere_is_no_url",),
    ),
    Plant(
        "a time beyond the calendar",
        7,
        "one record that ends in the year 9999, an hour further west, ends status for all",
        (Edit("clock", "parse_rfc3339", "found if EARLIEST <= found <= LATEST else None", "found"),),
        (_FOREIGN + "test_a_time_that_cant_be_written_is_none",),
    ),
    Plant(
        "integers of any length",
        3,
        "tokens are thrown away for the thousand digits beside them",
        (Edit("foreign", "", "(parse_int=_integer)", "()"),),
        (_FOREIGN + "test_a_number_of_any_length_costs_no_answer",),
    ),
    Plant(
        "lone surrogates let in",
        7,
        "a server's text can't be written into store, log or terminal",
        (Edit("foreign", "json_object", '"\\\\u" in text:', '"\\\\U" in text:'),),
        (_FOREIGN + "test_whatever_json_holds_can_be_stored_and_shown",),
    ),
    Plant(
        "a part of a secret repeated",
        9,
        "a server that shortens what it quotes puts most of a token into status",
        (
            Edit(
                "foreign",
                "without",
                "if not telling",
                "if telling:\n    return text.replace(max(secrets, key=len), mask)\nif not telling",
            ),
        ),
        (_FOREIGN + "test_a_secret_is_masked_however_little_of_it_is_quoted",),
    ),
    Plant(
        "a huge key among the changes",
        7,
        "one foreign row stops noticing for all",
        (
            Edit(
                "store",
                "DatabaseReader.changes",
                "page = self._changes_apart(after, last, limit)",
                "raise",
            ),
        ),
        (_SQLITE + "test_a_key_of_nine_megabytes_is_nobodys[trio]",),
    ),
    Plant(
        "a huge key among the rows",
        7,
        "one foreign row stops the start for all",
        (Edit("store", "StoreWriter._rescan", "if first < last", "if first == last"),),
        (_SQLITE + "test_a_key_of_nine_megabytes_is_nobodys[trio]",),
    ),
    Plant(
        "a damaged line of the schedule",
        7,
        "one foreign row in our table ends the daemon, again after every restart",
        (
            Edit(
                "store",
                "_due",
                "isinstance(expires_at, int | float) and isinstance(server, bytes)",
                "did and server != b''",
            ),
        ),
        (_SQLITE + "test_a_damaged_line_of_the_schedule_hides_nobody[trio]",),
    ),
    Plant(
        "a path taken for text",
        7,
        "a store whose path is no UTF-8 can't be opened",
        (Edit("store_url", "StoreUrl.__str__", "os.fsencode(self.path)", "str(self.path)"),),
        (_SQLITE + "test_a_path_that_is_no_text_is_a_store[trio]",),
    ),
    Plant(
        "JSON in the locale's bytes",
        7,
        "one handle with an umlaut ends `status --json` for all, or is no UTF-8",
        (
            Edit(
                "cli",
                "put_json",
                '_put(f"{json_text(value, indent=2)}\\n".encode("ascii"))',
                "import json\n"
                "\n"
                "json.dump(value, sys.stdout, ensure_ascii=False, indent=2)\n"
                'sys.stdout.write("\\n")\n'
                "sys.stdout.flush()",
            ),
        ),
        (_OUTPUT + "test_json_is_the_same_bytes_in_every_locale",),
    ),
    Plant(
        "text that the terminal lacks",
        7,
        "one handle with an umlaut ends `list` for all",
        (Edit("cli", "put_page", '(), "backslashreplace"', "()"),),
        (_OUTPUT + "test_text_is_shown_as_well_as_the_terminal_can",),
    ),
    Plant(
        "a full disk taken for a bug",
        7,
        "output that can't be written is blamed on the program, and why is not said",
        (Edit("cli", "_put", "(OSError, ValueError)", "ValueError"),),
        (_OUTPUT + "test_output_that_cant_be_written_is_no_bug",),
    ),
    Plant(
        "control characters in the console's log",
        10,
        "an issuer moves the cursor of whoever reads the log",
        (
            Edit(
                "log",
                "_console_renderer.console_lines",
                "printable(value if isinstance(value, str) else str(value))",
                "value if isinstance(value, str) else str(value)",
            ),
        ),
        ("tests/log/test_sink.py::test_no_line_moves_a_cursor",),
    ),
    Plant(
        "a bug in one login ends the batch",
        7,
        "one account that nobody has thought of ends `login --batch` for all",
        (Edit("cli", "isolate_bug", "IdiolectError:", "Exception:"),),
        (_APART + "test_a_bug_in_one_login_ends_no_batch",),
        short=True,
    ),
    Plant(
        "status not kept apart",
        7,
        "one record that nobody has thought of hides all others",
        (
            Edit(
                "cli", "read_rows", "isolate_bug(did, partial(read, did), partial(bug_row, did))", "read(did)"
            ),
        ),
        (_APART + "test_a_bug_in_one_row_is_that_row[trio]",),
    ),
    Plant(
        "a record in the repr of what is stored",
        9,
        "a traceback with locals, or a log line, shows whole records",
        (Edit("store", "Stored", "RecordError | None = field(repr=False)", "RecordError | None"),),
        ("tests/core/test_reprs.py::test_no_field_that_can_hold_a_secret_is_shown",),
    ),
    Plant(
        "a record in the repr of what a client keeps of it",
        9,
        "a client's log line shows its tokens and its key",
        (Edit("store", "KnownRecord", "text: bytes = field(repr=False)", "text: bytes"),),
        ("tests/core/test_reprs.py::test_no_field_that_can_hold_a_secret_is_shown",),
    ),
    Plant(
        "the whole environment for the browser",
        9,
        "app passwords and keys are given to a browser and all of its children",
        (Edit("cli", "opened", "env=browser_environment(os.environ),", ""),),
        ("tests/cli/test_browser_login.py::test_a_browser_gets_no_secrets[trio]",),
    ),
    Plant(
        "memory open to the user's other programs",
        9,
        "whatever runs as the same user reads tokens out of the process",
        (Edit("cli", "_keep_memory_private", "_PR_SET_DUMPABLE, 0", "_PR_SET_DUMPABLE, 1"),),
        ("tests/cli/test_process.py::test_nobody_looks_into_the_memory",),
    ),
    Plant(
        "idle connections kept",
        10,
        "forty connections that say nothing keep the browser out of its login",
        (Edit("cli", "Listener._counted", "self._idle.pop(0)", "self._idle[-1]"),),
        ("tests/cli/test_listener.py::test_idle_connections_keep_no_browser_out[trio]",),
    ),
    Plant(
        "refusals read whole",
        10,
        "a PDS that answers 401 without end fills the memory of every client",
        (Edit("adapters", "", "MOST = 64 * 1024", "MOST = 1 << 40"),),
        ("tests/auth/test_large_refusals.py::test_only_the_beginning_is_read[trio]",),
    ),
)
