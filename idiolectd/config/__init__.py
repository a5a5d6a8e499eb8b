"""The configuration: reads TOML and environment variables into checked, frozen dataclasses.

Nothing is read at import and nothing is global: callers pass the configuration on. No key contains a secret,
except a proxy's password in its URL; a key names the place of a secret.
"""

from idiolectd.config.clients import ClientConfig, ClientKeyConfig
from idiolectd.config.load import (
    SYSTEM_FILE,
    Reloaded,
    changed_keys,
    clients_place,
    default_store,
    load_config,
    reload_config,
)
from idiolectd.config.permissions import user_name, way_in
from idiolectd.config.settings import (
    KEYS,
    ClientsConfig,
    Config,
    IdentityConfig,
    NetworkConfig,
    OAuthConfig,
    Refreshes,
    StoreConfig,
)

__all__ = [
    "KEYS",
    "SYSTEM_FILE",
    "ClientConfig",
    "ClientKeyConfig",
    "ClientsConfig",
    "Config",
    "IdentityConfig",
    "NetworkConfig",
    "OAuthConfig",
    "Refreshes",
    "Reloaded",
    "StoreConfig",
    "changed_keys",
    "clients_place",
    "default_store",
    "load_config",
    "reload_config",
    "user_name",
    "way_in",
]
