"""Bugs at the borders: values that others wrote, and words that others read."""

from tests.torture.plants.plant import Edit, Plant

_URL = "tests/core/test_url.py::"
_FOREIGN = "tests/core/test_foreign.py::"
_SQLITE = "tests/store/test_sqlite.py::"

PLANTS = (
    Plant(
        "a host in any notation",
        10,
        "a proxy is asked for 0x7f.1, which is this machine's own services",
        (Edit("url", "    if _NUMERIC.fullmatch(labels[-1]):\n", "    if labels[-1].isdecimal():\n"),),
        (_URL + "test_a_number_in_another_notation_is_no_host",),
    ),
    Plant(
        "backslash in a URL",
        10,
        "what one library takes for a password is the host to another",
        (Edit("url", r"[^\\\[\]\s]*)@)?", r"[^\[\]\s]*)@)?"),),
        (_URL + "test_what_is_read_differently_elsewhere_is_no_url",),
    ),
    Plant(
        "any port",
        7,
        "one record with port 65536 ends a command for all",
        (Edit("url", "    if not 0 < port <= _MAX_PORT:\n", "    if not 0 < port:\n"),),
        (_URL + "test_what_is_read_differently_elsewhere_is_no_url",),
    ),
    Plant(
        "a time beyond the calendar",
        7,
        "one record that ends in the year 9999, an hour further west, ends status for all",
        (Edit("clock", "    return found if EARLIEST <= found <= LATEST else None\n", "    return found\n"),),
        (_FOREIGN + "test_a_time_that_cant_be_written_is_none",),
    ),
    Plant(
        "integers of any length",
        3,
        "tokens are thrown away for the thousand digits beside them",
        (Edit("foreign", "json.loads(text, parse_int=_integer)", "json.loads(text)"),),
        (_FOREIGN + "test_a_number_of_any_length_costs_no_answer",),
    ),
    Plant(
        "lone surrogates let in",
        7,
        "a server's text can't be written into store, log or terminal",
        (Edit("foreign", '        if "\\\\u" in text:\n', '        if "\\\\U" in text:\n'),),
        (_FOREIGN + "test_whatever_json_holds_can_be_stored_and_shown",),
    ),
    Plant(
        "a part of a secret repeated",
        9,
        "a server that shortens what it quotes puts most of a token into status",
        (
            Edit(
                "foreign",
                "    if not telling:\n        return text\n",
                "    if telling:\n        return text.replace(max(secrets, key=len), mask)\n    if not telling:\n        return text\n",
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
                "store/sqlite/reader",
                "            page = await self._changes_apart(sql, after, last, limit)\n",
                "            raise\n",
            ),
        ),
        (_SQLITE + "test_a_key_of_nine_megabytes_is_nobodys[trio]",),
    ),
    Plant(
        "a huge key among the rows",
        7,
        "one foreign row stops the start for all",
        (Edit("store/sqlite/writer", "            if first < last:\n", "            if first == last:\n"),),
        (_SQLITE + "test_a_key_of_nine_megabytes_is_nobodys[trio]",),
    ),
    Plant(
        "a path taken for text",
        7,
        "a store whose path is no UTF-8 can't be opened",
        (Edit("store/urls", "quote(os.fsencode(self.path))", "quote(str(self.path))"),),
        (_SQLITE + "test_a_path_that_is_no_text_is_a_store[trio]",),
    ),
)
