"""Whatever a configuration says: a checked `Config`, or a `ConfigError` that names the place."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from idiolectd.config import KEYS, Config, load_config
from idiolectd.errors import ConfigError
from tests.machines.profiles import runs

HOME = {"HOME": "/home/somebody"}

# A configuration may name a proxy with a password, and a key in place of the key's name.
SECRET = "s3cr3t-do-not-tell"

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=15),
    st.sampled_from(
        [
            "30s",
            "14d",
            "-1s",
            "1e400d",
            "https://issuer.test",
            "sqlite:///x",
            "~/x",
            "10.0.0.0/8",
            "::/999",
            f"http://u:{SECRET}@p.test:1",
            "\0",
        ]
    ),
)
some = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["client_id", "keys", "kid", "file", "env", "credential", "https://issuer.test"])
            | st.text("ab-", min_size=1, max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
keys = st.sampled_from([*KEYS, "store", "refresh.windows", "oauth.clients.keys", "log"]) | st.text(
    "ab._", min_size=1, max_size=6
)


def _toml(value: Any) -> str:
    """TOML of a value; JSON's strings are TOML's, but for the slash and surrogates."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(
            str(value), repr(value) if "e" not in repr(value) or "." in repr(value) else f"{value:.1f}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def _document(settings: dict[str, Any]) -> str:
    return "\n".join(f"{name.strip('.') or 'a'} = {_toml(value)}" for name, value in settings.items())


@given(
    text=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(keys, some, max_size=4).map(lambda d: _document(d).encode(errors="replace")),
    )
)
@example(text=b"a = " + b"[" * 50_000)
@example(text=b"\xef\xbb\xbf[store]")
@example(text=b"[refresh]\nsettle = nan")
@example(text=b"[refresh]\nwindow = [0.9, 0.1]")
@example(text=b"[refresh]\nrate = inf")
@example(text=b"[refresh]\nconcurrency = 9223372036854775807")
@example(text=f'[network]\nproxy = "ftp://u:{SECRET}@p.test:1"'.encode())
@example(text=f'[network]\nproxy = "http://u:{SECRET}@p.test:99999"'.encode())
@example(text=f'[network]\nproxi = "http://u:{SECRET}@p.test"'.encode())
@runs(400)
def test_a_file_is_a_configuration_or_an_error(text: bytes) -> None:
    """Any file is checked values, or an error whose every line names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(text)
        try:
            config = load_config(path, HOME)
        except ConfigError as error:
            assert all(line.startswith(f"{path}: ") for line in str(error).splitlines() if line.strip())
            _tells_no_secret(error, text)
            return
    _is_sane(config)


@given(
    environ=st.dictionaries(
        st.sampled_from([key.variable for key in KEYS.values()]) | st.just("IDIOLECTD_STORE_URL"),
        st.one_of(
            some.map(_toml),
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
        ),
        max_size=3,
    )
)
@runs(300)
def test_variables_are_a_configuration_or_an_error(environ: dict[str, str]) -> None:
    """Any variables are checked values, or an error that names the variable."""
    try:
        config = load_config(None, HOME | environ | {"IDIOLECTD_CONFIG": os.devnull})
    except ConfigError as error:
        assert any(name in str(error) for name in environ)
        _tells_no_secret(error, "".join(environ.values()).encode())
        return
    _is_sane(config)


def _tells_no_secret(error: ConfigError, text: bytes) -> None:
    """A password in a proxy's URL is not repeated, neither here nor in a traceback."""
    if SECRET.encode() in text:
        assert SECRET not in str(error)
        assert error.__cause__ is None


def _is_sane(config: Config) -> None:
    """What the daemon would do with it makes sense."""
    first, last = config.refresh.window
    assert 0 < first <= last < 1
    assert 0 <= config.refresh.settle <= 3600
    assert config.refresh.concurrency is None or 1 <= config.refresh.concurrency <= 1000
    assert config.refresh.rate is None or 0 < config.refresh.rate <= 10_000
    assert config.store.url
    assert SECRET not in repr(config)
