"""The configuration: TOML and variables in, frozen and checked dataclasses out.

Nothing is read at import and nothing is global: whoever needs a value is given it. Keys that hold
secrets do not exist; a key names the place of a secret.
"""

from idiolectd.config.clients import ClientConfig, ClientKeyConfig
from idiolectd.config.load import Reloaded, changed_keys, load_config, reload_config
from idiolectd.config.settings import (
    KEYS,
    Config,
    IdentityConfig,
    NetworkConfig,
    OAuthConfig,
    StoreConfig,
)

__all__ = [
    "KEYS",
    "ClientConfig",
    "ClientKeyConfig",
    "Config",
    "IdentityConfig",
    "NetworkConfig",
    "OAuthConfig",
    "Reloaded",
    "StoreConfig",
    "changed_keys",
    "load_config",
    "reload_config",
]
