"""Decides where a session's token may be sent: to its PDS and to the origins in `also`, never in the clear.

Decides by the URL alone and sends nothing.
"""

from collections.abc import Collection

from idiolectd.errors import ConfigError, SessionError, TokenWithheld, UrlError
from idiolectd.session import OAuthSession
from idiolectd.url import Url


def check_destination(session: OAuthSession, url: str, also: Collection[str] = ()) -> None:
    """Refuses a URL that the session's token must not be sent to.

    Args:
        session: the session whose token is to be sent.
        url: the request's URL.
        also: origins besides the PDS's, as `parse_origins` returns them.

    Raises:
        TokenWithheld: the message names both hosts.
        SessionError: the record names no PDS.
    """
    check_target(session.did, pds_origin(session), parse_target(session.did, url), also)


def parse_target(did: str, url: str) -> Url:
    """Where a request goes: its URL without the query, which says nothing of that.

    Raises:
        TokenWithheld: it is not an http or https URL.
    """
    try:
        return Url.parse(url.partition("?")[0])
    except UrlError as error:
        raise TokenWithheld(f"{did}: a token goes to http and https URLs only: {error}") from None


def check_target(did: str, home: str, target: Url, also: Collection[str]) -> None:
    """As `check_destination`, with everything parsed.

    Args:
        did: whose token it is.
        home: the origin of its PDS.
        target: where the request goes.
        also: as for `check_destination`.

    Raises:
        TokenWithheld: the message names both hosts.
    """
    asked = target.origin
    if asked != home and asked not in also:
        raise TokenWithheld(
            f"the token of {did} belongs to {home} and was not sent to {asked};"
            f" if it is meant for that host too: also=[{asked!r}]"
        )
    if target.is_cleartext:
        raise TokenWithheld(f"the token of {did} was not sent to {asked} in the clear; use https")


def pds_origin(session: OAuthSession) -> str:
    """Scheme, host and port of the session's PDS.

    Raises:
        SessionError: the record names none.
    """
    try:
        return Url.parse(session.pds_url).origin
    except UrlError:
        raise SessionError(f"the record of {session.did} names no PDS: field pdsUrl is not a URL") from None


def parse_origins(urls: Collection[str]) -> frozenset[str]:
    """The origins of URLs.

    Raises:
        ConfigError: one of them is no URL.
    """
    if isinstance(urls, str):
        raise ConfigError(f"also: found the text {urls!r}; expected a list of origins")
    found = set()
    for url in urls:
        try:
            found.add(Url.parse(url).origin)
        except UrlError:
            raise ConfigError(f"also: {url!r} is not an origin; expected https://HOST") from None
    return frozenset(found)
