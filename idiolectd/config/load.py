"""Loads a `Config` from a file, environment variables and the command line.

Reads one file: ``--config``, or else ``$IDIOLECTD_CONFIG``, or else the first that exists of
``~/.config/idiolectd/config.toml`` and ``/etc/idiolectd/config.toml``. A variable overrides the file, and
``--store`` overrides both. All problems are reported at once. An unknown key is an error, because a misspelt
key would silently leave the default.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from idiolectd.config import url_values, value_kinds
from idiolectd.config.permissions import user_name, way_in
from idiolectd.config.settings import KEYS, SECTIONS, Config, Key, StoreConfig
from idiolectd.config.value_kinds import InvalidValue
from idiolectd.errors import ConfigError
from idiolectd.remedy import Commands
from idiolectd.store_url import StoreUrl, parse_store_url

SYSTEM_FILE = Path("/etc/idiolectd/config.toml")

# Where the packaged configuration has the clients' view.
SYSTEM_VIEW = Path("/run/idiolectd/clients")

_PREFIX = "IDIOLECTD_"
_FILE_VARIABLE = "IDIOLECTD_CONFIG"
_UPSTREAM_VARIABLE = "IDIOLECT_SESSION_DIR"


class SystemFileClosed(ConfigError):
    """The system's configuration is there, and this user may not read it; see the message."""


def load_config(path: Path | None, environ: Mapping[str, str], *, store_url: str | None = None) -> Config:
    """Reads and checks the configuration.

    Args:
        path: the file of ``--config``; None: search for one.
        environ: the environment variables.
        store_url: the URL of ``--store``; None: as configured.

    Raises:
        ConfigError: the configuration is wrong; the message has one line for each problem.
    """
    found = _find(path, environ)
    problems: list[str] = []
    settings = _from_file(found, environ, problems) if found is not None else {}
    settings |= _from_environment(environ, problems)
    if store_url is not None:
        settings["store.url"] = ("--store", store_url)
    values: dict[str, Any] = {}
    for name, (source, value) in settings.items():
        try:
            values[name] = KEYS[name].kind.check(value)
        except InvalidValue as refused:
            problems += [f"{source}: {name}{where}: {what}" for where, what in refused.problems]
    if not problems:
        problems = _contradictions(values, settings)
    if problems:
        raise ConfigError("\n".join(problems))
    named_by = settings["store.url"][0] if "store.url" in settings else None
    if named_by is None and environ.get(_UPSTREAM_VARIABLE):
        named_by = f"${_UPSTREAM_VARIABLE}"
    values["store.url"] = _expanded(values.get("store.url"), environ)
    if "store.spill_dir" in values:
        values["store.spill_dir"] = _in_home(values["store.spill_dir"], environ)
    return _assemble(found, named_by, values, _options(found, named_by, values["store.url"], environ))


def clients_place(environ: Mapping[str, str]) -> tuple[str, StoreConfig | None]:
    """Returns the URL of what client programs read, the configured view, or the store if there is no view.

    The second is the store's configuration if it is the store.

    A user who may read the packaged view needs no right to read the system's configuration; one who may read the
    store, but not the view, reads the store.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        config = load_config(None, environ)
    except SystemFileClosed:
        if os.access(SYSTEM_VIEW, os.R_OK | os.X_OK, effective_ids=True):
            return f"file://{SYSTEM_VIEW}", None
        raise
    view, store = config.clients.url, config.store.url
    if view is None or (_is_closed(view) and not _is_closed(store)):
        return store, config.store
    return view, None


def changed_keys(old: Config, new: Config) -> list[str]:
    """Returns the keys whose values differ, as ``section.key``."""
    return [
        name
        for name, key in KEYS.items()
        if getattr(getattr(old, key.section), key.name) != getattr(getattr(new, key.section), key.name)
    ]


@dataclass(frozen=True)
class Reloaded:
    """The result of a reload.

    Attributes:
        config: the configuration from now on.
        changed: the changed keys that take effect now.
        ignored: the changed keys that take effect after a restart.
    """

    config: Config
    changed: list[str]
    ignored: list[str]


def reload_config(running: Config, new: Config) -> Reloaded:
    """Applies the changes that need no restart, and keeps the other keys as they were.

    Raises:
        ConfigError: the running configuration's file is gone. It may be about to be replaced, so this does
            not mean that every key takes its default.
    """
    if running.path is not None and new.path is None:
        raise ConfigError(f"{running.path} is gone; put it back, or restart to go on without it")
    names = changed_keys(running, new)
    ignored = [name for name in names if not KEYS[name].reload]
    config = new
    for name in ignored:
        key = KEYS[name]
        section = getattr(config, key.section)
        kept = replace(section, **{key.name: getattr(getattr(running, key.section), key.name)})
        config = replace(config, **{key.section: kept})
    return Reloaded(config, [name for name in names if KEYS[name].reload], ignored)


def candidates(environ: Mapping[str, str]) -> list[Path]:
    """Returns the files to search if neither ``--config`` nor ``$IDIOLECTD_CONFIG`` names one."""
    return [_config_home(environ) / "idiolectd" / "config.toml", SYSTEM_FILE]


def default_store(environ: Mapping[str, str]) -> Path:
    """Returns the folder of the upstream CLI, which is the store if nothing names one: both see the same."""
    return (_home(environ) / ".config" / "idiolect" / "sessions").absolute()


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path if path is not None else environ.get(_FILE_VARIABLE)
    if named:
        return Path(named).absolute()
    for candidate in candidates(environ):
        try:
            candidate.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # a file may be there: its keys must not be ignored
            if candidate == SYSTEM_FILE and isinstance(error, PermissionError):
                raise SystemFileClosed(_not_readable(candidate, environ)) from None
            raise ConfigError(f"{candidate}: {error.strerror}; make it readable or name a file") from None
        return candidate
    return None


_Settings = dict[str, tuple[str, object]]


def _not_readable(path: Path, environ: Mapping[str, str]) -> str:
    """Returns the message for a user who may not read a configuration file."""
    message = f"{path}: {user_name()} may not read it: {way_in(path)}"
    if path != SYSTEM_FILE:
        return message
    own = candidates(environ)[0]
    return f"{message}. For a store of your own, make a file {own}, which may be empty: it comes first"


def _from_file(path: Path, environ: Mapping[str, str], problems: list[str]) -> _Settings:
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except PermissionError:
        closed = SystemFileClosed if path == SYSTEM_FILE else ConfigError
        raise closed(_not_readable(path, environ)) from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    settings: _Settings = {}
    for section, table in document.items():
        if section not in SECTIONS:
            hint = _hint(section, SECTIONS) or _hint(section, KEYS)
            problems.append(f"{path}: [{section}]: unknown; expected one of {', '.join(SECTIONS)}{hint}")
        elif not isinstance(table, dict):
            problems.append(
                f"{path}: {section}: found {value_kinds.shown(table)}; expected a table [{section}]"
            )
        else:
            for name, value in table.items():
                key = f"{section}.{name}"
                if key in KEYS:
                    settings[key] = (str(path), value)
                else:
                    problems.append(f"{path}: {key}: unknown key{_hint(key, KEYS)}")
    return settings


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> _Settings:
    variables = {key.variable: key for key in KEYS.values()}
    loose = {name.replace("__", "_"): name for name in variables}
    settings: _Settings = {}
    for name, text in environ.items():
        if not name.startswith(_PREFIX) or name == _FILE_VARIABLE:
            continue
        if name in variables:
            key = variables[name]
            settings[key.path] = (f"${name}", _from_text(key, text))
        elif name in loose:
            problems.append(f"${name}: unknown; did you mean ${loose[name]}?")
        elif "__" in name:  # other names with this prefix may belong to other programs
            problems.append(f"${name}: unknown{_hint(name, variables, '$')}")
    return settings


def _from_text(key: Key, text: str) -> object:
    """Reads a variable's value as TOML, or as plain text if the key is text or the value is not TOML."""
    if key.kind.text:
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text


def _contradictions(values: Mapping[str, Any], settings: _Settings) -> list[str]:
    """Returns the problems of keys that contradict each other."""
    problems: list[str] = []
    if not values.get("network.allow_loopback_http"):
        for name in ("identity.plc_directory_url", "identity.handle_resolver_url"):
            url = values.get(name)
            if url and url_values.is_plain_http(url):
                source = settings[name][0]
                problems.append(
                    f"{source}: {name}: found {value_kinds.shown(url)}; plain http needs network.allow_loopback_http = true"
                )
    clients = values.get("oauth.clients", ())
    login_client = values.get("oauth.login_client_id")
    if login_client and not any(c.client_id == login_client and c.redirect_uri for c in clients):
        problems.append(
            f"{settings['oauth.login_client_id'][0]}: oauth.login_client_id: found"
            f" {value_kinds.shown(login_client)}; expected a client of oauth.clients that has a redirect_uri"
        )
    ids = [client.client_id for client in clients]
    source = settings["oauth.clients"][0] if ids else ""
    problems += [
        f"{source}: oauth.clients: {value_kinds.shown(twice)} is there {ids.count(twice)} times; give it one table with all keys"
        for twice in dict.fromkeys(ids)
        if ids.count(twice) > 1
    ]
    return problems


def _options(
    found: Path | None, named_by: str | None, store_url: str, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Returns the options by which a command finds the same file and store wherever it is typed."""
    try:
        usual = _find(None, {name: value for name, value in environ.items() if name != _FILE_VARIABLE})
    except ConfigError:
        usual = None
    options: list[str] = []
    if found != usual:
        options += ["--config", str(found)]
    if named_by is not None and named_by.startswith(("--store", "$")):
        options += ["--store", store_url]
    return tuple(options)


def _assemble(
    path: Path | None, named_by: str | None, values: Mapping[str, Any], options: tuple[str, ...]
) -> Config:
    sections: dict[str, Any] = {}
    for section, declared in SECTIONS.items():
        given = {
            f.name: values[f"{section}.{f.name}"] for f in fields(declared) if f"{section}.{f.name}" in values
        }
        sections[section] = declared(**given)
    return Config(path=path, store_named_by=named_by, commands=Commands(options), **sections)


def _expanded(url: str | None, environ: Mapping[str, str]) -> str:
    """Returns the store's URL, or the default one, with the home folder filled in."""
    if url is None:
        folder = environ.get(_UPSTREAM_VARIABLE)
        return str(StoreUrl("file", Path(folder).absolute() if folder else default_store(environ)))
    return _in_home(url, environ)


def _in_home(path: str, environ: Mapping[str, str]) -> str:
    return str(_home(environ) / path[2:]) if path.startswith("~/") else path


def _config_home(environ: Mapping[str, str]) -> Path:
    named = Path(environ.get("XDG_CONFIG_HOME", ""))
    # "All paths set in these environment variables must be absolute", XDG Base Directory.
    return named if named.is_absolute() else _home(environ) / ".config"


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME")
    try:
        return Path(home) if home else Path.home()
    except RuntimeError:
        raise ConfigError("the home folder is unknown; set $HOME, or name --config and store.url") from None


def _is_closed(url: str) -> bool:
    """Whether this user is not permitted to read a store or view."""
    try:
        os.close(os.open(parse_store_url(url).path, os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _hint(name: str, known: Iterable[str], sigil: str = "") -> str:
    """Returns ``; did you mean …?`` for a known name that is similar, as a whole or in its last part."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    if not near:
        last = {path.rpartition(".")[2]: path for path in known}
        near = [
            last[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.8)
        ]
    return f"; did you mean {sigil}{near[0]}?" if near else ""
