"""Keys of confidential clients: a broken one costs the sessions that were started with it, and no others."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from idiolectd.config import ClientConfig, ClientKeyConfig, Config, OAuthConfig, StoreConfig
from idiolectd.errors import ConfigError, LoginError
from idiolectd.oauth import ClientRegistry
from idiolectd.oauth.client_auth import ClientAuth
from idiolectd.outcome import Suspended
from idiolectd.parts import read_clients, require_readable_keys
from tests.simulator import new_client_key
from tests.store.support import session

CLIENT, OTHER = "https://a.example/c.json", "https://b.example/c.json"


@dataclass
class Keys:
    """Key files of two clients: k1 and k2 of the first, k3 of the second."""

    folder: Path
    good: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kid in ("k1", "k2", "k3"):
            self.good[kid] = json.dumps(new_client_key(kid))
            self.put(kid, self.good[kid])

    def put(self, kid: str, text: str) -> None:
        path = self.folder / kid
        path.touch(0o600)
        path.write_text(text)

    def config(self) -> Config:
        def client(client_id: str, *kids: str) -> ClientConfig:
            keys = tuple(ClientKeyConfig(kid, "file", str(self.folder / kid)) for kid in kids)
            return ClientConfig(client_id, keys)

        clients = (client(CLIENT, "k1", "k2"), client(OTHER, "k3"))
        return Config(store=StoreConfig(url="memory:"), oauth=OAuthConfig(clients=clients))

    def read(self) -> ClientRegistry:
        return read_clients(self.config())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def client_of(registry: ClientRegistry, client_id: str, kid: str | None) -> ClientAuth | Suspended:
    """What a session gets that was started with that key."""
    made = replace(session(), client_id=client_id, client_auth_method="private_key_jwt", client_key_id=kid)
    return registry.client_of(made)


@pytest.mark.parametrize("text", ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "{}", ""])
def test_one_broken_key(keys: Keys, text: str) -> None:
    """Its own sessions are suspended, by name; all others have their clients; mended, it works without a reload."""
    keys.put("k1", text)
    registry = keys.read()
    found = client_of(registry, CLIENT, "k1")
    assert isinstance(found, Suspended)
    assert (found.cause, "key k1" in found.message) == ("client_key_unusable", True)
    assert isinstance(client_of(registry, CLIENT, "k2"), ClientAuth)
    assert isinstance(client_of(registry, OTHER, "k3"), ClientAuth)
    with pytest.raises(LoginError, match="key k1"):
        registry.for_login(CLIENT)
    keys.put("k1", keys.good["k1"])
    assert isinstance(client_of(registry, CLIENT, "k1"), ClientAuth)
    assert registry.for_login(CLIENT).key_id == "k1"


def test_a_broken_key_makes_no_other_the_only_one(keys: Keys) -> None:
    """A session that names no key is not sent with the one that happens to be left: that would end it."""
    keys.put("k1", "")
    assert isinstance(client_of(keys.read(), CLIENT, None), Suspended)


def test_keys_that_are_not_there(keys: Keys) -> None:
    """A daemon does not start without a key that it was told to use; what is no key concerns its sessions only."""
    keys.put("k1", "{}")
    require_readable_keys(keys.config())
    (keys.folder / "k1").unlink()
    with pytest.raises(ConfigError, match="key k1"):
        require_readable_keys(keys.config())


def test_a_reload_takes_no_working_key_away(keys: Keys) -> None:
    """Not by a file that can't be read, nor by another key under the same name: sessions would end."""
    running = keys.read()
    for text in ("", json.dumps(new_client_key("k1"))):
        keys.put("k1", text)
        with pytest.raises(ConfigError, match="key k1"):
            running.check_successor(keys.read())
    running = keys.read()
    keys.put("k3", "")
    running = keys.read()
    keys.put("k2", "")
    with pytest.raises(ConfigError, match="key k2"):
        running.check_successor(keys.read())
    keys.put("k2", keys.good["k2"])
    running.check_successor(keys.read())  # k3 was broken before, and is no reason now
