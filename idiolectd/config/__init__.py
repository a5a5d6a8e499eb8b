"""The configuration: reads TOML and environment variables into checked, frozen dataclasses.

Nothing is read at import and nothing is global: callers pass the configuration on. No key contains a secret,
except a proxy's password in its URL; a key names the place of a secret.
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
