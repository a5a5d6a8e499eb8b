"""Bugs that show secrets to whoever reads logs, errors and files."""

from tests.torture.plants.plant import Edit, Plant

_SEALED = "tests/store/test_sealed_stores.py::"

PLANTS = (
    Plant(
        "tokens in the repr of a session",
        9,
        "one log line with a session in it gives it away",
        (Edit("session", "_secret", "default, repr=False", "default"),),
        ("tests/core/test_session.py::test_no_secret_in_repr",),
        short=True,
    ),
    Plant(
        "tokens in the repr of a state",
        9,
        "one log line with a state in it gives the session away",
        (
            Edit(
                "state",
                "RefreshState",
                "last_good: str | None = field(default=None, repr=False)",
                "last_good: str | None = None",
            ),
        ),
        ("tests/core/test_state.py::test_no_token_in_repr",),
    ),
    Plant(
        "JWTs not masked in logs",
        9,
        "a server that quotes what it refuses puts tokens into the log",
        (Edit("log", "", '("eyj"), re', '("no such sign",), re'),),
        ("tests/log/test_redact.py::test_masked",),
    ),
    Plant(
        "a line looked at without its quotes",
        9,
        "a printed record passes, because nothing in the line seems to be a credential",
        (Edit("log", "", "('\"', \"'\")", "('\"',)"),),
        ("tests/log/test_redact.py::test_no_pattern_is_left_out", "tests/log/test_redact.py::test_masked"),
    ),
    Plant(
        "server's text repeated as it is",
        9,
        "a server that quotes what it refuses puts tokens into errors and states",
        (Edit("http", "safe_text", "without(_cut(text, secrets), secrets)", "_cut(text, secrets)"),),
        ("tests/http/test_memory.py::test_a_refusal_never_repeats_what_was_sent",),
    ),
    Plant(
        "broken record's text in its error",
        9,
        "what can't be parsed is shown, tokens and all",
        (Edit("session", "_parse_object", '("not JSON") from', '(f"not JSON: {text!r}") from'),),
        ("tests/core/test_session.py::test_what_is_not_a_session_is_said_without_its_secrets",),
    ),
    Plant(
        "tokens spilled as they are",
        9,
        "on a full disk a sealed store leaves its newest tokens readable in the second place",
        (Edit("store", "SpillFolder.put", "self._keys.seal(spilled.session)", "spilled.session"),),
        (_SEALED + "test_no_secret_is_on_the_disk[trio-files]",),
    ),
    Plant(
        "sealed without its account",
        10,
        "who may write into the store moves a sealed token to another account",
        (Edit("store", "_associated", "key_id, did, name", "key_id, name"),),
        ("tests/store/test_sealing.py::test_a_secret_belongs_to_its_account_and_pds",),
    ),
    Plant(
        "what does not open counts as clear",
        10,
        "with a wrong key the sealed text is sent as a token, and saved over",
        (Edit("store", "Keys._open", "if self._leaves_sealed", "if text"),),
        (
            _SEALED + "test_a_key_that_does_not_open[trio-files-wrong]",
            "tests/store/test_sealing.py::test_no_damage_makes_another_token",
        ),
    ),
)
