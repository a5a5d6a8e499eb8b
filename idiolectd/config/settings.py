"""Declares every key of the configuration, once.

A section is a frozen dataclass, and a key is one of its fields. The field's metadata are the kind of value,
the explanation, an example, and whether SIGHUP applies a change. The loader, the names of the environment
variables, the error messages and config.example.toml are all made from these declarations.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from idiolectd.config import url_values, value_kinds
from idiolectd.config.clients import CLIENTS, ClientConfig
from idiolectd.config.store_keys import STORE_KEYS, StoreKeyConfig
from idiolectd.config.value_kinds import Network, ValueKind
from idiolectd.policy import WINDOW
from idiolectd.remedy import PLAIN, Commands
from idiolectd.session import OAuthSession

_DAY = 86400.0


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
        section: its TOML table.
        name: its name in the table.
        kind: the kind of its values.
        doc: its explanation in config.example.toml.
        example: TOML text of the default, or of a typical value if there is no default.
        reload: whether SIGHUP applies a change; otherwise a restart does.
    """

    section: str
    name: str
    kind: ValueKind
    doc: str
    example: str
    reload: bool

    @property
    def path(self) -> str:
        """``section.name``, as messages and documentation write it."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that overrides the file."""
        return f"IDIOLECTD_{self.section}__{self.name}".upper()


def _scope(value: object) -> str:
    scopes = value_kinds.string(value).split()
    if "atproto" not in scopes:  # https://atproto.com/specs/oauth: every session has it
        raise ValueError
    return " ".join(scopes)


def _key(
    kind: ValueKind, default: Any, doc: str, *, example: str, reload: bool = True, secret: bool = False
) -> Any:
    about = {"kind": kind, "doc": doc, "example": example, "reload": reload}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=about, hash=False, repr=not secret)
    return field(default=default, metadata=about, repr=not secret)


# See `LogConfig.refreshes`.
Refreshes = Literal["each", "summary", "auto"]


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Where the sessions are stored."""

    url: str = _key(
        url_values.store_url(),
        "",  # the loader fills it in: it depends on the environment
        "The session store: sqlite:///PATH, file:///FOLDER, an absolute path or memory:. Without it:"
        " the upstream CLI's folder, $IDIOLECT_SESSION_DIR or ~/.config/idiolect/sessions/.",
        example='"sqlite:///var/lib/idiolectd/sessions.sqlite"',
        reload=False,
    )
    group: str | None = _key(
        value_kinds.optional(value_kinds.text("the name of a group")),
        None,
        "A group whose members may read the store, refresh tokens and DPoP keys included."
        ' "" = only the owner may.',
        example='"idiolectd"',
        reload=False,
    )
    spill_dir: str | None = _key(
        value_kinds.absolute_path(),
        None,
        "A second folder, for new tokens that can't be saved in the store (a full disk); best on another file"
        " system. Without it: /run/idiolectd/spill if it belongs to the store's owner, or"
        " ~/.local/state/idiolectd/spill, whichever is on another file system. The store records the folder,"
        " so that every program that refreshes looks there.",
        example='"/run/idiolectd/spill"',
        reload=False,
    )
    keys: tuple[StoreKeyConfig, ...] = _key(
        STORE_KEYS,
        (),
        "Keys that seal tokens and DPoP keys in the store: each has an id, and is read from a file, a systemd"
        " credential or an environment variable. The first one seals, all of them open. `idiolectd rekey --new-key"
        " FILE` makes one, `idiolectd rekey` seals what is stored with the first. Without keys the store is clear."
        " docs/sealing.md says what this protects.",
        example='[{ id = "2026-11", file = "/etc/idiolectd/store.key" }]',
        reload=False,
    )


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """The daemon as a service of this host."""

    user: str | None = _key(
        value_kinds.optional(value_kinds.text("the name of a user")),
        None,
        "The user that the service runs as. A command that root types becomes the owner of the store; this"
        " user, as long as there is no store. Only for the store that is configured, not for --store.",
        example='"idiolectd"',
        reload=False,
    )


@dataclass(frozen=True, kw_only=True)
class ClientsConfig:
    """What client programs read in place of the store."""

    url: str | None = _key(
        value_kinds.optional(url_values.view_url()),
        None,
        "Where client programs find the sessions without their refresh tokens: file:///FOLDER or sqlite:///PATH;"
        " best in memory, below /run. It is written anew at each start. SessionAuth and load_session read it if"
        ' they are given no store. "" = they read the store itself.',
        example='"file:///run/idiolectd/clients"',
        reload=False,
    )
    group: str | None = _key(
        value_kinds.optional(value_kinds.text("the name of a group")),
        None,
        'A group whose members may read it: access tokens and DPoP keys. "" = only the daemon\'s user may.',
        example='"idiolectd-clients"',
        reload=False,
    )


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """When sessions are refreshed, and how fast."""

    window: tuple[float, float] = _key(
        value_kinds.window(),
        WINDOW,
        "An access token is refreshed once, at a time drawn between these two shares of its life. A server's"
        " outage that is shorter than the rest of its life goes unnoticed.",
        example="[0.70, 0.85]",
    )
    settle: float = _key(
        value_kinds.duration(0, 3600),
        30.0,
        "How long to wait after a lost response before the session is tried again: the request may still be"
        " in flight. Below half a second a lost response is mistaken for an unsent request.",
        example='"30s"',
    )
    confirm: float = _key(
        value_kinds.duration(0, 86_400),
        120.0,
        "A session is given up when its server has refused it at least three times over this time. A"
        " server also refuses while it restarts or its database is locked: below a minute that loses"
        " sessions. 0 gives a session up at the first refusal; for tests only.",
        example='"2m"',
    )
    concurrency: int | None = _key(
        value_kinds.optional(value_kinds.integer(1, 1000)),
        None,
        'The most refreshes that may be in flight at one server at the same time. "" = 8, and up to 64 if its'
        " sessions need a higher rate than 50 a second.",
        example="8",
    )
    total_concurrency: int | None = _key(
        value_kinds.optional(value_kinds.integer(8, 10_000)),
        None,
        "The most refreshes that may be in flight at all servers together. Half of these places are for"
        ' servers that take more than 5 s to answer. "" = as many as the limit of open files allows, at most 1,024.',
        example="320",
    )
    rate: float | None = _key(
        value_kinds.optional(value_kinds.rate(10_000)),
        None,
        'The most refreshes per second that are sent to one server. "" = 50, or more if the sessions stored'
        " need more. Either way fewer if the server asks for that (RateLimit headers, status 429); the daemon"
        " warns if what is allowed is less than what they need.",
        example="50",
    )


@dataclass(frozen=True, kw_only=True)
class OAuthConfig:
    """Which OAuth clients the sessions belong to."""

    client_id: str | None = _key(
        value_kinds.optional(url_values.client_id()),
        None,
        "The client_id of sessions that don't name their client. A refresh with a wrong client ends a"
        ' session, so it is used only if nothing contradicts it. "" = the client named by the session or its token.',
        example='"https://app.example/client-metadata.json"',
    )
    login_client_id: str | None = _key(
        value_kinds.optional(url_values.client_id()),
        None,
        "The client to log in with, one of oauth.clients; it needs a redirect_uri there."
        ' "" = the public client of every machine (http://localhost), whose sessions are short.',
        example='"https://app.example/client-metadata.json"',
    )
    scope: str = _key(
        value_kinds.made("scopes with atproto among them, separated by spaces", _scope, text=True),
        "atproto transition:generic",
        "The scope that a login requests.",
        example='"atproto transition:generic"',
    )
    session_life: float = _key(
        value_kinds.duration(60, 36_500 * _DAY),
        14 * _DAY,
        "How long after the login a server ends a public client's session, however often it is refreshed.",
        example='"14d"',
    )
    session_life_confidential: float = _key(
        value_kinds.duration(60, 36_500 * _DAY),
        730 * _DAY,
        "The same for the session of a confidential client, one with keys.",
        example='"730d"',
    )
    session_life_by_issuer: Mapping[str, float] = _key(
        value_kinds.table_of(url_values.service_url(), value_kinds.duration(60, 36_500 * _DAY)),
        {},
        "The same for all sessions of one issuer, by its URL.",
        example='{ "https://issuer.example" = "30d" }',
    )
    clients: tuple[ClientConfig, ...] = _key(
        CLIENTS,
        (),
        "Confidential clients, one table each: the client_id and its private keys (P-256; PEM or JWK)."
        " A key is read from a file, from a systemd credential of that name, or from an environment"
        " variable. A session needs the key it was started with for all of its life; new ones use the"
        " first. `idiolectd client metadata` prints what to host at the client_id, and `idiolectd client"
        " page` what to host at the redirect_uri.",
        example='[{ client_id = "https://app.example/client-metadata.json",'
        ' redirect_uri = "https://app.example/idiolectd", name = "Our bots",'
        ' keys = [{ kid = "2026-01", credential = "client-key-2026-01" }] }]',
    )

    def session_life_of(self, session: OAuthSession) -> float:
        """Returns this session's lifetime in seconds, counted from its login."""
        issuer = (session.issuer or "").rstrip("/")
        confidential = session.client_auth_method == "private_key_jwt"
        usual = self.session_life_confidential if confidential else self.session_life
        return self.session_life_by_issuer.get(issuer, usual)


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """Where handles and DIDs are resolved."""

    plc_directory_url: str = _key(
        url_values.service_url(),
        "https://plc.directory",
        "The directory of did:plc identities.",
        example='"https://plc.directory"',
    )
    handle_resolver_url: str | None = _key(
        value_kinds.optional(url_values.service_url()),
        None,
        "A server that resolves handles (com.atproto.identity.resolveHandle); it learns the handles."
        ' "" = by DNS and the handle\'s own web server, as the specification says.',
        example='""',
    )


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Where connections may go."""

    allow_loopback_http: bool = _key(
        value_kinds.boolean(),
        False,
        "Allows plain HTTP to loopback addresses, for a PDS on the same host.",
        example="false",
        reload=False,
    )
    allow_addresses: tuple[Network, ...] = _key(
        value_kinds.networks(),
        (),
        "Private networks to which connections are allowed, for a PDS on the LAN.",
        example="[]",
        reload=False,
    )
    ca_file: str | None = _key(
        value_kinds.optional(value_kinds.absolute_path()),
        None,
        "A PEM file of certificate authorities to trust in addition to the system's, for a PDS with a private"
        " one. The system's are OpenSSL's, or those of $SSL_CERT_FILE and $SSL_CERT_DIR.",
        example='"/etc/idiolectd/lan-ca.pem"',
        reload=False,
    )
    proxy: str | None = _key(
        value_kinds.optional(url_values.proxy_url()),
        None,
        "An HTTP proxy for all connections. It resolves the names, so idiolectd can't check addresses."
        ' "" = none; proxy variables of the environment are never used.',
        example='"http://proxy.example:3128"',
        reload=False,
        secret=True,  # may hold a password
    )


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """The log on standard error."""

    format: Literal["json", "console"] | None = _key(
        value_kinds.optional(value_kinds.choice("json", "console")),
        None,
        'json: one object a line; console: for people. "" = console on a terminal, else json.',
        example='""',
        reload=False,
    )
    level: Literal["debug", "info", "warning", "error"] = _key(
        value_kinds.choice("debug", "info", "warning", "error"),
        "info",
        "The lowest level that is written: debug, info, warning or error.",
        example='"info"',
    )
    refreshes: Literal["each", "summary", "auto"] = _key(
        value_kinds.choice("each", "summary", "auto"),
        "auto",
        "each: a line for each session that is refreshed or found. summary: one line a minute that counts them by"
        " issuer. auto: summary with more than 1,000 sessions. What goes wrong always has a line of its own.",
        example='"auto"',
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, checked.

    Attributes:
        path: the file it was loaded from; None: without a file.
        store_named_by: what names the store's URL: an option, a variable or the file; None: it is the default.
        commands: how commands are typed that find this configuration and its store.
    """

    path: Path | None = None
    store_named_by: str | None = None
    commands: Commands = PLAIN
    store: StoreConfig
    service: ServiceConfig = ServiceConfig()
    clients: ClientsConfig = ClientsConfig()
    refresh: RefreshConfig = RefreshConfig()
    oauth: OAuthConfig = field(default_factory=OAuthConfig)
    identity: IdentityConfig = IdentityConfig()
    network: NetworkConfig = NetworkConfig()
    log: LogConfig = LogConfig()


SECTIONS: Mapping[str, type] = {
    "store": StoreConfig,
    "service": ServiceConfig,
    "clients": ClientsConfig,
    "refresh": RefreshConfig,
    "oauth": OAuthConfig,
    "identity": IdentityConfig,
    "network": NetworkConfig,
    "log": LogConfig,
}


def _declared() -> Iterator[Key]:
    for section, declared in SECTIONS.items():
        for declared_field in fields(declared):
            assert declared_field.default is not MISSING or declared_field.default_factory is not MISSING  # noqa: S101
            yield Key(section=section, name=declared_field.name, **declared_field.metadata)


KEYS: Mapping[str, Key] = {key.path: key for key in _declared()}
