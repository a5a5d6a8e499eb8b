"""The example configuration and the table of keys agree."""

import re
import tomllib
from pathlib import Path

from idiolectd.config import KEYS, load_config
from idiolectd.config.load import candidates
from tests.config.example import EXAMPLE, example

SETTING = re.compile(r"^#([a-z_]+ = .*)$", re.MULTILINE)


def test_file_is_the_generated_text() -> None:
    """config.example.toml is what the table of keys says; `python -m tests.config.example` writes it."""
    assert EXAMPLE.read_text() == example()


def test_loads_as_it_is() -> None:
    """The example as delivered is the default configuration."""
    environ = {"HOME": "/home/somebody"}
    config = load_config(EXAMPLE, environ)
    assert config.path == EXAMPLE
    without = load_config(None, environ | {"XDG_CONFIG_HOME": "/nowhere"})
    assert (config.store, config.refresh, config.oauth) == (without.store, without.refresh, without.oauth)


def test_loads_with_everything_uncommented(tmp_path: Path) -> None:
    """Every setting in the example is valid, and every key is there."""
    text = SETTING.sub(r"\1", EXAMPLE.read_text())
    found = {f"{section}.{key}" for section, table in tomllib.loads(text).items() for key in table}
    assert found == set(KEYS)
    path = tmp_path / "config.toml"
    path.write_text(text)
    load_config(path, {"HOME": "/home/somebody"})


def test_shown_defaults_are_the_defaults(tmp_path: Path) -> None:
    """Where a key has a default, the example shows that and nothing else."""
    path = tmp_path / "config.toml"
    path.write_text(SETTING.sub(r"\1", EXAMPLE.read_text()))
    environ = {"HOME": "/home/somebody"}
    shown, default = load_config(path, environ), load_config(None, environ | {"XDG_CONFIG_HOME": "/nowhere"})
    only_examples = {
        "store.url",
        "store.group",
        "store.spill_dir",
        "store.keys",
        "service.user",
        "refresh.concurrency",
        "refresh.total_concurrency",
        "refresh.rate",
        "clients.url",
        "clients.group",
        "oauth.client_id",
        "oauth.login_client_id",
        "oauth.session_life_by_issuer",
        "oauth.clients",
        "network.ca_file",
        "network.proxy",
    }
    for path_name, key in KEYS.items():
        same = getattr(getattr(shown, key.section), key.name) == getattr(
            getattr(default, key.section), key.name
        )
        assert same is (path_name not in only_examples), path_name


def test_every_key_is_explained() -> None:
    """No key goes without a sentence, and its variable's name follows from its own."""
    for key in KEYS.values():
        assert key.doc.endswith((".", '"" = none.')), key.path
    assert KEYS["store.url"].variable == "IDIOLECTD_STORE__URL"
    assert candidates({"HOME": "/h", "XDG_CONFIG_HOME": "relative"})[0] == Path(
        "/h/.config/idiolectd/config.toml"
    )
