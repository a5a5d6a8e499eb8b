"""Where a configuration comes from, and what is said of a wrong one."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from idiolectd.config import Config, changed_keys, load_config, reload_config
from idiolectd.errors import ConfigError

HOME = {"HOME": "/home/somebody"}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def problems(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_config(path, HOME | (environ or {}))
    return str(raised.value).splitlines()


def test_defaults(tmp_path: Path) -> None:
    """Without a file and variables every key has its documented default."""
    config = load_config(None, {"HOME": str(tmp_path)})
    assert config.path is None
    assert config.store.url == f"file://{tmp_path}/.config/idiolect/sessions"
    assert config.refresh.window == (0.70, 0.85)
    assert (config.refresh.settle, config.refresh.concurrency, config.refresh.rate) == (30.0, None, None)
    assert config.oauth.session_life == 14 * 86400
    assert config.identity.handle_resolver_url is None
    assert config.log.format is None


def test_default_store_is_upstreams_folder() -> None:
    """$IDIOLECT_SESSION_DIR names the upstream CLI's folder, whatever characters are in it."""
    config = load_config(None, HOME | {"IDIOLECT_SESSION_DIR": "/srv/my sessions"})
    assert config.store.url == "file:///srv/my%20sessions"


def test_search_order(tmp_path: Path) -> None:
    """The command line beats the variable, that beats the user's file; only one of them is read."""
    paths = {}
    for number, name in enumerate(
        ("named", "variable", "xdg/idiolectd/config", ".config/idiolectd/config"), 1
    ):
        path = tmp_path / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[refresh]\nconcurrency = {number}\n")
        paths[name] = path
    home = {"HOME": str(tmp_path)}
    xdg = home | {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    variable = xdg | {"IDIOLECTD_CONFIG": str(paths["variable"])}
    named: Path | None = paths["named"]
    for given, environ, expected in (
        (named, variable, 1),
        (None, variable, 2),
        (None, xdg, 3),
        (None, home, 4),
    ):
        config = load_config(given, environ)
        assert config.refresh.concurrency == expected
        assert config.path is not None
        assert str(expected) in config.path.read_text()


def test_named_file_must_exist(tmp_path: Path) -> None:
    """A file that somebody names and that is not there is an error, not the defaults."""
    assert "No such file" in problems(tmp_path / "missing.toml")[0]
    assert "No such file" in problems(None, {"IDIOLECTD_CONFIG": str(tmp_path / "missing.toml")})[0]


def test_variable_beats_file(written: Callable[[str], Path]) -> None:
    """A variable overrides its key and leaves the others as the file has them."""
    path = written('[refresh]\nconcurrency = 3\nsettle = "2m"\n')
    config = load_config(path, HOME | {"IDIOLECTD_REFRESH__CONCURRENCY": "5"})
    assert (config.refresh.concurrency, config.refresh.settle) == (5, 120.0)


def test_command_line_beats_variable() -> None:
    """--store overrides the variable."""
    config = load_config(None, HOME | {"IDIOLECTD_STORE__URL": "/a.sqlite"}, store_url="/b.sqlite")
    assert config.store.url == "/b.sqlite"


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("IDIOLECTD_REFRESH__SETTLE", "90s", "refresh", "settle", 90.0),
        ("IDIOLECTD_REFRESH__SETTLE", "1.5m", "refresh", "settle", 90.0),
        ("IDIOLECTD_REFRESH__SETTLE", "0.2", "refresh", "settle", 0.2),
        ("IDIOLECTD_OAUTH__SESSION_LIFE", "14d", "oauth", "session_life", 14 * 86400.0),
        ("IDIOLECTD_REFRESH__WINDOW", "[0.5, 0.6]", "refresh", "window", (0.5, 0.6)),
        ("IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP", "true", "network", "allow_loopback_http", True),
        (
            "IDIOLECTD_NETWORK__ALLOW_ADDRESSES",
            '["10.0.0.0/8"]',
            "network",
            "allow_addresses",
            (ip_network("10.0.0.0/8"),),
        ),
        ("IDIOLECTD_STORE__GROUP", "1000", "store", "group", "1000"),
        ("IDIOLECTD_STORE__GROUP", "", "store", "group", None),
        ("IDIOLECTD_STORE__URL", "~/x.sqlite", "store", "url", "/home/somebody/x.sqlite"),
        ("IDIOLECTD_LOG__FORMAT", "", "log", "format", None),
        (
            "IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL",
            "https://plc.example/",
            "identity",
            "plc_directory_url",
            "https://plc.example",
        ),
        (
            "IDIOLECTD_OAUTH__SESSION_LIFE_BY_ISSUER",
            '{"https://a.example/" = "1d"}',
            "oauth",
            "session_life_by_issuer",
            {"https://a.example": 86400.0},
        ),
    ],
)
def test_values_in_variables(variable: str, text: str, section: str, key: str, value: object) -> None:
    """A variable holds text where the key is text, and TOML elsewhere."""
    config = load_config(None, HOME | {variable: text})
    assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("store.url", '"sessions.sqlite"'),
        ("store.url", '"sqlite://sessions.sqlite"'),
        ("store.url", '"sqlite:///"'),
        ("store.url", '"redis://x"'),
        ("store.url", '""'),
        ("store.url", "3"),
        ("refresh.window", "[0.9, 0.8]"),
        ("refresh.window", "[0, 0.8]"),
        ("refresh.window", "[0.5, 1.0]"),
        ("refresh.window", "[0.5]"),
        ("refresh.window", "[0.5, true]"),
        ("refresh.window", "[nan, 0.8]"),
        ("refresh.settle", "-1"),
        ("refresh.settle", '"90"'),
        ("refresh.settle", '"90 fortnights"'),
        ("refresh.settle", "inf"),
        ("refresh.settle", "true"),
        ("refresh.concurrency", "0"),
        ("refresh.concurrency", "1001"),
        ("refresh.concurrency", "8.0"),
        ("refresh.concurrency", "true"),
        ("refresh.rate", "0"),
        ("oauth.client_id", '"http://app.example/client.json"'),
        ("oauth.client_id", '"app"'),
        ("oauth.session_life_by_issuer", '{ "https://a.example" = "soon" }'),
        ("oauth.session_life_by_issuer", '{ "a.example" = "1d" }'),
        ("identity.plc_directory_url", '"http://plc.example"'),
        ("identity.plc_directory_url", '"https://user:secret@plc.example"'),
        ("identity.plc_directory_url", '"https://plc.example:port"'),
        ("identity.plc_directory_url", '""'),
        ("network.allow_loopback_http", '"yes"'),
        ("network.allow_addresses", '["10.1.2.3/8"]'),
        ("network.allow_addresses", '"10.0.0.0/8"'),
        ("network.proxy", '"socks5://user:secret@proxy.example"'),
        ("log.format", '"xml"'),
        ("log.level", '"INFO"'),
    ],
)
def test_wrong_value(written: Callable[[str], Path], key: str, value: str) -> None:
    """A wrong value is named with its key, its source, what was found and what is allowed."""
    section, name = key.split(".")
    path = written(f"[{section}]\n{name} = {value}\n")
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: {key}")
    assert "found " in problem
    assert "; expected " in problem
    assert "secret" not in problem


def test_every_problem_is_told(written: Callable[[str], Path]) -> None:
    """All problems come at once, one a line, each with its source."""
    path = written("[refresh]\nconcurrency = 0\nsettle = -1\n")
    found = problems(path, {"IDIOLECTD_LOG__LEVEL": "loud"})
    assert [line.split(": ")[1] for line in found] == ["refresh.concurrency", "refresh.settle", "log.level"]
    assert found[2].startswith("$IDIOLECTD_LOG__LEVEL: ")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[refresh]\nconcurency = 3\n", "refresh.concurency: unknown key; did you mean refresh.concurrency?"),
        ("[store]\nwindow = [0.5, 0.6]\n", "store.window: unknown key; did you mean refresh.window?"),
        ("[refersh]\nsettle = 3\n", "did you mean refresh?"),
        ("settle = 3\n", "[settle]: unknown"),
        ("[refresh]\nfrobnicate = 3\n", "refresh.frobnicate: unknown key"),
        ("store = 3\n", "store: found 3; expected a table [store]"),
    ],
)
def test_unknown_names(written: Callable[[str], Path], text: str, hint: str) -> None:
    """What is not a key is an error, with a guess at what was meant."""
    (problem,) = problems(written(text))
    assert hint in problem


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("IDIOLECTD_STORE_URL", "did you mean $IDIOLECTD_STORE__URL?"),
        ("IDIOLECTD_STORE__URI", "did you mean $IDIOLECTD_STORE__URL?"),
        ("IDIOLECTD_NOTHING__LIKE_IT", "unknown"),
    ],
)
def test_unknown_variables(variable: str, hint: str) -> None:
    """A variable with our prefix that sets no key is an error."""
    (problem,) = problems(None, {variable: "x"})
    assert problem.startswith(f"${variable}: unknown")
    assert hint in problem


def test_other_programs_variables() -> None:
    """A variable that can't be meant for a key is left alone."""
    load_config(None, HOME | {"IDIOLECTD_BACKUP": "x", "IDIOLECT_OTHER": "x"})


@pytest.mark.parametrize("text", ["[store", "a = ", "\ufeff[store]\nurl = 1 2"])
def test_not_toml(written: Callable[[str], Path], text: str) -> None:
    """A file that is not TOML is named, with the place in it."""
    path = written(text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: not TOML: ")


def test_not_utf8(tmp_path: Path) -> None:
    """A file that is not UTF-8 is an error of configuration too."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"[store]\nurl = '\xff'\n")
    assert problems(path) == [f"{path}: not UTF-8"]


def test_variable_can_not_smuggle_keys() -> None:
    """A line break in a variable does not set a second key."""
    (problem,) = problems(None, {"IDIOLECTD_REFRESH__CONCURRENCY": "3\nrate = 9"})
    assert "refresh.concurrency: found" in problem


def test_loopback_url_needs_permission() -> None:
    """A plain http service is refused until loopback http is allowed."""
    url = {"IDIOLECTD_IDENTITY__PLC_DIRECTORY_URL": "http://localhost:2582"}
    (problem,) = problems(None, url)
    assert "network.allow_loopback_http" in problem
    allowed = url | {"IDIOLECTD_NETWORK__ALLOW_LOOPBACK_HTTP": "true"}
    assert load_config(None, HOME | allowed).identity.plc_directory_url == "http://localhost:2582"


def test_proxy_password_is_not_in_repr() -> None:
    """A proxy URL may hold a password, so no repr shows it."""
    config = load_config(None, HOME | {"IDIOLECTD_NETWORK__PROXY": "http://user:secret@proxy.example"})
    assert config.network.proxy == "http://user:secret@proxy.example"
    assert "secret" not in repr(config)


def loaded(**variables: str) -> Config:
    return load_config(None, HOME | {f"IDIOLECTD_{name}": value for name, value in variables.items()})


def test_changed_keys() -> None:
    """Exactly the keys whose values differ are named."""
    old = loaded()
    assert changed_keys(old, loaded()) == []
    new = loaded(REFRESH__CONCURRENCY="9", STORE__URL="/x.sqlite", LOG__LEVEL="debug")
    assert changed_keys(old, new) == ["store.url", "refresh.concurrency", "log.level"]


def test_reload_keeps_what_needs_a_restart() -> None:
    """A reload takes over what can change and keeps the rest, and says which is which."""
    old = loaded(STORE__URL="/old.sqlite", REFRESH__SETTLE="10s")
    new = loaded(STORE__URL="/new.sqlite", REFRESH__SETTLE="20s", NETWORK__ALLOW_LOOPBACK_HTTP="true")
    reloaded = reload_config(old, new)
    assert reloaded.changed == ["refresh.settle"]
    assert reloaded.ignored == ["store.url", "network.allow_loopback_http"]
    assert reloaded.config.refresh.settle == 20.0
    assert reloaded.config.store.url == "/old.sqlite"
    assert not reloaded.config.network.allow_loopback_http


def test_a_file_that_is_gone_is_no_configuration() -> None:
    """A reload in the moment in which the file is not there does not make everything the default."""
    running = load_config(None, {"HOME": "/h"})
    with pytest.raises(ConfigError, match="is gone; put it back"):
        reload_config(replace(running, path=Path("/etc/x.toml")), running)
