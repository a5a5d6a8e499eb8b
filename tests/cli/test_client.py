"""`idiolectd client`: what to host, and looking at it."""

import json
from pathlib import Path

import pytest

from idiolectd.cli.client import finding_of
from idiolectd.oauth import MetadataFinding
from tests.cli.conftest import Run
from tests.jose import new_jwk
from tests.real_pds.proofs import public_half

CLIENT_ID = "https://client.test/client-metadata.json"
REDIRECT = "https://client.test/back"
JWK = new_jwk()


@pytest.fixture
def configure(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with one client, whose key is in the environment."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'[[oauth.clients]]\nclient_id = "{CLIENT_ID}"\nredirect_uri = "{REDIRECT}"\nname = "Our <bots>"\n'
        'keys = [{ kid = "2026", env = "CLIENT_KEY" }]\n'
    )
    monkeypatch.setenv("IDIOLECTD_CONFIG", str(path))
    monkeypatch.setenv("CLIENT_KEY", JWK)
    return path


def test_metadata(run: Run, configure: Path) -> None:
    """The document is JSON alone on standard output, with the public key and nothing of the private one."""
    done = run("client", "metadata")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.json["client_id"] == CLIENT_ID
    assert done.json["jwks"]["keys"] == [
        {**public_half(JWK), "kid": "2026", "use": "sig", "alg": "ES256"},
    ]
    assert json.loads(JWK)["d"] not in done.out + done.err
    assert run("client", "metadata", CLIENT_ID).out == done.out


def test_page(run: Run, configure: Path) -> None:
    """The page is HTML alone on standard output, and needs no key."""
    configure.write_text(configure.read_text().replace("CLIENT_KEY", "NO_SUCH_KEY"))
    done = run("client", "page")
    assert (done.code, done.out.startswith("<!doctype html>")) == (0, True)
    assert "Log in: Our &lt;bots&gt;" in done.out
    assert REDIRECT in done.err


def test_check_can_not_reach_it(run: Run, configure: Path) -> None:
    """A host that does not answer makes exit 75, and no verdict."""
    configure.write_text(configure.read_text().replace("client.test/client", "localhost:1/client"))
    done = run("client", "check")
    assert (done.code, done.out) == (75, "")
    assert "https://localhost:1" in done.err


def test_what_a_check_comes_to() -> None:
    """What fits is exit 0, what must be changed 1, what may pass 75."""
    looked = [
        MetadataFinding("scope", None),
        MetadataFinding("document", "answers 503", passing=True),
        MetadataFinding("key k", "is not published"),
    ]
    assert [(found.verdict, found.code) for found in map(finding_of, looked)] == [
        ("ok", 0), ("failed", 75), ("failed", 1)
    ]  # fmt: skip


def test_which_client(run: Run, configure: Path) -> None:
    """Without any client, with several, or with another's name, it is said which there are."""
    assert (done := run("client", "metadata", "https://other.test/c.json")).code == 2
    assert CLIENT_ID in done.err
    more = configure.read_text().replace(CLIENT_ID, "https://second.test/c.json")
    configure.write_text(configure.read_text() + more)
    assert (done := run("client", "page")).code == 2
    assert "https://second.test/c.json" in done.err
    assert run("client", "page", "https://second.test/c.json").code == 0
    configure.write_text("")
    assert (done := run("client", "check")).code == 2
    assert "oauth.clients" in done.err


def test_what_is_missing(run: Run, configure: Path) -> None:
    """A client without a redirect_uri has no page, a key that can't be read is named, a public client is told."""
    text = configure.read_text()
    configure.write_text(text.replace(f'redirect_uri = "{REDIRECT}"\n', ""))
    for command in ("page", "metadata"):
        assert (done := run("client", command)).code == 2
        assert "redirect_uri" in done.err
    configure.write_text(text.replace("CLIENT_KEY", "NO_SUCH_KEY"))
    assert (done := run("client", "metadata")).code == 2
    assert "NO_SUCH_KEY" in done.err
    configure.write_text(text.replace(CLIENT_ID, "http://localhost?scope=atproto"))
    assert (done := run("client", "metadata")).code == 2
    assert "needs no document" in done.err
