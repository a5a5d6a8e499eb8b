"""URLs: what is taken, in which form, and that nothing but our error comes out."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolectd.errors import UrlError
from idiolectd.url import Url


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://PDS.Test", "https://pds.test/"),
        ("HTTPS://pds.test:443/a?b=c#d", "https://pds.test/a?b=c"),
        ("http://pds.test:80?x", "http://pds.test/?x"),
        ("https://pds.test:8443/", "https://pds.test:8443/"),
        ("https://pds.test:/", "https://pds.test/"),
        ("https://pds.test:0443/", "https://pds.test/"),
        ("http://[::0:1]:80/", "http://[::1]/"),
        ("http://127.0.0.1:2583/x", "http://127.0.0.1:2583/x"),
        ("https://xn--a/", "https://xn--a/"),
        ("https://a_b.test./x y/ü?q=ü d", "https://a_b.test./x%20y/%C3%BC?q=%C3%BC%20d"),
        ("https://user:word@pds.test/", "https://pds.test/"),
        ("https://pds.test/%2f@x:y", "https://pds.test/%2f@x:y"),
    ],
)
def test_one_spelling_for_each(text: str, canonical: str) -> None:
    """Two spellings of a server are one server, and what is compared is what is dialled."""
    found = Url.parse(text)
    assert str(found) == canonical
    assert Url.parse(canonical) == Url.parse(str(found))
    assert str(httpx.URL(canonical)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pds.test",
        "//pds.test",
        "ftp://pds.test/",
        "https://",
        "https:///x",
        "https://:443/",
        "https://[x",
        "https://[x]/",
        "https://[::1",
        "https://[fe80::1%251]/",
        "https://[127.0.0.1]/",
        "https://pds.test:65536/",
        "https://pds.test:0/",
        "https://pds.test:x/",
        "https://pds.test:\uff11/",
        "https://pds..test/",
        "https://.test/",
        "https://" + "a" * 64 + ".test/",
        "https://" + "a." * 127 + "test/",
        "https://bücher.test/",
        "https://pds%2etest/",
        "https://pds.test\\@evil.test/",
        "https://pds.test /",
        " https://pds.test/",
        "https://pds.test/\n",
        "https://pds\t.test/",
        "https://pds.test/\x7f",
        "https://pds.test/\ud800",
        "https://\udc80/",
        "https://pds.test/" + "a" * 70_000,
    ],
)
def test_what_is_read_differently_elsewhere_is_no_url(text: str) -> None:
    """One error of ours, whatever a library would have raised or believed."""
    with pytest.raises(UrlError):
        Url.parse(text)


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "127.1", "0177.0.0.1", "0x7f000001", "1.2.3.4.5", "a.1", "127.0.0.1."]
)
def test_a_number_in_another_notation_is_no_host(host: str) -> None:
    """A resolver, or a proxy, would make an address of it that nobody has looked at."""
    with pytest.raises(UrlError, match="number"):
        Url.parse(f"https://{host}/")


def test_a_password_is_not_shown() -> None:
    """Proxies have them in their URLs."""
    url = Url.parse("http://user:SECRET@proxy.test:3128")
    assert url.userinfo == "user:SECRET"
    assert "SECRET" not in repr(url) + str(url)
    with pytest.raises(UrlError) as caught:
        Url.parse("http://user:SECRET@proxy.test:99999")
    assert "SECRET" not in str(caught.value)


_PIECES = st.sampled_from(
    ["https://", "http://", "[", "]", "@", ":", "/", "\\", "?", "#", "%", ".", "..", "::1", "xn--", "0x", "9", "a", "ü", "\ud800", "\x00", " "]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=12).map("".join)))
def test_nothing_but_our_error_comes_out(text: str) -> None:
    """And what is taken, httpx takes too, and means the same server by it."""
    try:
        url = Url.parse(text)
    except UrlError:
        return
    theirs = httpx.URL(str(url))
    assert theirs.raw_host.decode() == url.host
    assert theirs.port == url.port
    assert Url.parse(str(url)).origin == url.origin
    assert url.origin.isascii()
