"""Confidential clients: their tables, and reading their keys."""

import os
from pathlib import Path

import pytest

from idiolectd.config import ClientKeyConfig, load_config
from idiolectd.errors import ConfigError
from idiolectd.session import OAuthSession

TABLES = """
[[oauth.clients]]
client_id = "https://app.example/client.json"
keys = [
    { kid = "new", credential = "client-key" },
    { kid = "old", file = "/etc/idiolectd/old.pem" },
]

[[oauth.clients]]
client_id = "https://other.example/client.json"
[[oauth.clients.keys]]
kid = "1"
env = "OTHER_KEY"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_tables(tmp_path: Path) -> None:
    """Both ways to write the tables in TOML are read, in order."""
    first, second = load_config(write(tmp_path, TABLES), {"HOME": "/"}).oauth.clients
    assert first.client_id == "https://app.example/client.json"
    assert first.keys == (
        ClientKeyConfig("new", "credential", "client-key"),
        ClientKeyConfig("old", "file", "/etc/idiolectd/old.pem"),
    )
    assert second.keys == (ClientKeyConfig("1", "env", "OTHER_KEY"),)


@pytest.mark.parametrize(
    ("clients", "place"),
    [
        ('[{ client_id = "https://a.example/c.json" }]', "oauth.clients[0]:"),
        ('[{ client_id = "https://a.example/c.json", keys = [] }]', "oauth.clients[0]:"),
        ('[{ client_id = "https://a.example/c.json", keys = [{ kid = "1" }] }]', "oauth.clients[0].keys[0]:"),
        (
            '[{ client_id = "https://a.example/c.json", keys = [{ kid = "1", file = "/a", env = "B" }] }]',
            "oauth.clients[0].keys[0]:",
        ),
        (
            '[{ client_id = "https://a.example/c.json", keys = [{ kid = "1", file = "a" }] }]',
            "oauth.clients[0].keys[0].file:",
        ),
        (
            '[{ client_id = "https://a.example/c.json", keys = [{ kid = "1", credential = "../a" }] }]',
            "oauth.clients[0].keys[0].credential:",
        ),
        (
            '[{ client_id = "https://a.example/c.json", keys = [{ kid = "1", key = "-----BEGIN PRIVATE KEY-----" }] }]',
            "oauth.clients[0].keys[0].key: unknown",
        ),
        (
            '[{ client_id = "https://a.example/c.json", keys = [{ kid = "1", env = "A" }, { kid = "1", env = "B" }] }]',
            "oauth.clients[0].keys:",
        ),
        (
            '[{ client_id = "https://a.example/c", redirect_uri = "http://127.0.0.1/", keys = [{ kid = "1", env = "A" }] }]',
            "oauth.clients[0].redirect_uri:",
        ),
        ("[3]", "oauth.clients[0]:"),
        ("3", "oauth.clients:"),
    ],
)
def test_wrong_tables(tmp_path: Path, clients: str, place: str) -> None:
    """A wrong table is named down to the key inside it."""
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, f"[oauth]\nclients = {clients}\n"), {"HOME": "/"})
    assert place in str(raised.value)
    assert "BEGIN" not in str(raised.value)


def test_one_table_for_one_client(tmp_path: Path) -> None:
    """The same client twice would leave half of its keys out."""
    client = '{ client_id = "https://a.example/c.json", keys = [{ kid = "1", env = "A" }] }'
    with pytest.raises(ConfigError, match="there 2 times"):
        load_config(write(tmp_path, f"[oauth]\nclients = [{client}, {client}]\n"), {"HOME": "/"})


@pytest.mark.parametrize("redirect", ["", 'redirect_uri = "https://a.example/back", '])
def test_a_login_needs_a_client_that_can_be_answered(tmp_path: Path, redirect: str) -> None:
    """The client to log in with is one of the clients, and has a redirect_uri."""
    client = f'{{ client_id = "https://a.example/c.json", {redirect}name = "A", keys = [{{ kid = "1", env = "A" }}] }}'
    text = f'[oauth]\nlogin_client_id = "https://a.example/c.json"\nclients = [{client}]\n'
    if redirect:
        config = load_config(write(tmp_path, text), {"HOME": "/"})
        assert config.oauth.clients[0].redirect_uri == "https://a.example/back"
    else:
        with pytest.raises(ConfigError, match="a redirect_uri"):
            load_config(write(tmp_path, text), {"HOME": "/"})


def test_a_scope_without_atproto_is_refused() -> None:
    """No session is without the scope atproto."""
    assert (
        load_config(None, {"HOME": "/", "IDIOLECTD_OAUTH__SCOPE": "atproto  a:b"}).oauth.scope
        == "atproto a:b"
    )
    with pytest.raises(ConfigError, match="scopes with atproto"):
        load_config(None, {"HOME": "/", "IDIOLECTD_OAUTH__SCOPE": "transition:generic"})


def test_reads_keys(tmp_path: Path) -> None:
    """A key's text comes from a file, from a systemd credential or from a variable."""
    path = tmp_path / "client-key"
    path.write_text("the key")
    path.chmod(0o640)
    folder = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert ClientKeyConfig("1", "file", str(path)).read({}) == "the key"
    assert ClientKeyConfig("1", "credential", "client-key").read(folder) == "the key"
    assert ClientKeyConfig("1", "env", "KEY").read({"KEY": "the key"}) == "the key"


def test_unreadable_keys(tmp_path: Path) -> None:
    """What can't be used as a key is refused with a reason, and a pipe does not hang the program."""
    (tmp_path / "open").write_text("the key")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "binary").touch(0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").touch(0o600)
    (tmp_path / "huge").write_text("x" * 70_000)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, reason in {
        "open": "chmod o-rwx",
        "empty": "is empty",
        "binary": "is not text",
        "huge": "is too long",
        "pipe": "is not a file",
        "missing": "No such file",
    }.items():
        with pytest.raises(ConfigError, match=reason) as raised:
            ClientKeyConfig("1", "file", str(tmp_path / name)).read({})
        assert "the key" not in str(raised.value)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        ClientKeyConfig("1", "env", "NO_SUCH_KEY").read({})
    with pytest.raises(ConfigError, match="LoadCredential=client-key"):
        ClientKeyConfig("1", "credential", "client-key").read({})


def session(*, issuer: str | None, client_auth_method: str = "none") -> OAuthSession:
    return OAuthSession(
        did="did:plc:a", pds_url="https://pds.example", issuer=issuer, client_auth_method=client_auth_method
    )


def test_session_life_of() -> None:
    """A session's life goes by its issuer, else by whether its client has keys."""
    variables = {"IDIOLECTD_OAUTH__SESSION_LIFE_BY_ISSUER": '{"https://a.example" = "5d"}'}
    oauth = load_config(None, {"HOME": "/"} | variables).oauth
    day = 86400.0
    assert oauth.session_life_of(session(issuer="https://a.example/")) == 5 * day
    assert oauth.session_life_of(session(issuer="https://b.example")) == 14 * day
    assert oauth.session_life_of(session(issuer=None)) == 14 * day
    confidential = session(issuer="https://b.example", client_auth_method="private_key_jwt")
    assert oauth.session_life_of(confidential) == 730 * day
