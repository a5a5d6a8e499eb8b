"""Store URLs."""

from pathlib import Path

import pytest

from idiolectd.errors import ConfigError, StoreError
from idiolectd.store import (
    FilesystemOAuthTokenStore,
    InMemoryOAuthTokenStore,
    SqliteOAuthTokenStore,
    open_store,
)
from idiolectd.store_url import StoreUrl, parse_store_url


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("memory:", "memory", "/"),
        ("sqlite:///var/lib/x.db", "sqlite", "/var/lib/x.db"),
        ("sqlite:////var/lib/x.db", "sqlite", "/var/lib/x.db"),
        ("file:///srv/s", "file", "/srv/s"),
        ("file:////srv/s/", "file", "/srv/s"),
        ("file://localhost/srv/s", "file", "/srv/s"),
        ("file:///srv/a%20b", "file", "/srv/a b"),
        ("/no/such/folder/", "file", "/no/such/folder"),
        ("/no/such/file", "sqlite", "/no/such/file"),
    ],
)
def test_urls_and_paths(text: str, kind: str, path: str) -> None:
    """Three and four slashes mean the same, and a plain path is told by what is there."""
    parsed = parse_store_url(text)
    assert (parsed.kind, str(parsed.path)) == (kind, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "sqlite:x",
        "sqlite://x/y",
        "file:///",
        "sqlite:///",
        "file:x",
        "http://x/y",
        "postgres:///x",
        "a\0b",
    ],
)
def test_what_is_no_store_url(text: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        parse_store_url(text)


def test_plain_paths_follow_what_is_there(tmp_path: Path) -> None:
    """An existing folder is a filesystem store, everything else a database."""
    assert parse_store_url(str(tmp_path)).kind == "file"
    assert parse_store_url(str(tmp_path / "x")).kind == "sqlite"
    assert parse_store_url("~").path == Path.home()


def test_a_url_can_be_read_again() -> None:
    """What is shown is what was meant, whatever the path contains."""
    for path in ("/a b/%41?#é", "/x"):
        url = StoreUrl("file", Path(path))
        assert parse_store_url(str(url)) == url
    assert str(StoreUrl("memory", Path("/"))) == "memory:"


@pytest.mark.anyio
async def test_each_url_opens_its_store(tmp_path: Path) -> None:
    """The three kinds, each telling its URL."""
    for url, kind in (
        ("memory:", InMemoryOAuthTokenStore),
        (f"file://{tmp_path}/a%20b", FilesystemOAuthTokenStore),
        (f"sqlite://{tmp_path}/c d.db", SqliteOAuthTokenStore),
    ):
        async with open_store(url) as store:
            assert type(store) is kind
            assert parse_store_url(store.url) == parse_store_url(url)


@pytest.mark.anyio
async def test_the_wrong_kind_is_named(tmp_path: Path) -> None:
    """A file as a folder, a folder as a file, and an unknown group are errors that say so."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="sqlite:///PATH"):
        async with open_store(f"file://{tmp_path}/file"):
            pass
    with pytest.raises(StoreError, match="file:///FOLDER"):
        async with open_store(f"sqlite://{tmp_path}"):
            pass
    for url in (f"file://{tmp_path}/d", f"sqlite://{tmp_path}/e"):
        with pytest.raises(StoreError, match="no-such-group"):
            async with open_store(url, group="no-such-group"):
                pass
