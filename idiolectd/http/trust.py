"""Which certificate authorities are believed: the system's, and those of ``network.ca_file``.

The system's are OpenSSL's: what ``update-ca-certificates`` and its like install, and what
``$SSL_CERT_FILE`` and ``$SSL_CERT_DIR`` name. Where there are none (a bare container), those that come
along with httpx. One context for all connections: it costs 50 ms, and truststore, which finds the same
files, reads them again for every connection (measured: 47 ms instead of 0.01). A process runs for years
and authorities come and go: `Trust` looks at the files now and then and reads what has changed.
"""

import os
import ssl
import time
from pathlib import Path

import httpx

from idiolectd.errors import ConfigError

# Where distributions keep their bundle; a Python that was built elsewhere may look at none of them.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine
)


# How often the files are looked at. The new one of an authority is installed weeks before it is needed.
_LOOK_AGAIN = 60.0

_Stamps = tuple[tuple[int, int, int] | None, ...]


class Trust:
    """The context that verifies servers, made anew when the certificates that it was made of have changed.

    What can't be read then changes nothing: the old context stays, and the next look tries again.

    Args:
        ca_file: as `tls_context`.

    Raises:
        ConfigError: as `tls_context`, at first.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._stamps = _stamps(ca_file)
        self._context = tls_context(ca_file)
        self._looked_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether `context` would look at the files, and may take its time: it belongs into a thread then."""
        return time.monotonic() - self._looked_at > _LOOK_AGAIN

    def context(self) -> ssl.SSLContext:
        """The context for a new connection. Costs 50 ms after a change, else next to nothing."""
        if self.is_due:
            self._looked_at = time.monotonic()
            stamps = _stamps(self._ca_file)
            if stamps != self._stamps:
                try:
                    self._context = tls_context(self._ca_file)
                except (ConfigError, OSError):
                    return self._context
                self._stamps = stamps
        return self._context


def _stamps(ca_file: str | None) -> _Stamps:
    """What tells that one of the files has another content."""
    paths = ssl.get_default_verify_paths()
    places = [paths.cafile, paths.capath, *_BUNDLES, ca_file and os.path.expanduser(ca_file)]  # noqa: PTH111
    found: list[tuple[int, int, int] | None] = []
    for place in places:
        try:
            about = os.stat(place) if place else None  # noqa: PTH116 - one call for text and None
        except OSError:
            about = None
        found.append((about.st_ino, about.st_size, about.st_mtime_ns) if about else None)
    return tuple(found)


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """What verifies servers, for one client's connections.

    Args:
        ca_file: PEM certificates of authorities that are believed beside the system's.

    Raises:
        ConfigError: that file can't be read, or holds no certificate.
    """
    context = _system_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        path = os.path.expanduser(ca_file)  # noqa: PTH111 - OpenSSL opens it
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError:  # it is an OSError, too
            raise ConfigError(f"network.ca_file: {path} holds no PEM certificate") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "it can't be read"
            raise ConfigError(f"network.ca_file: {path}: {reason}") from None
    return context


def _system_context() -> ssl.SSLContext:
    found = ssl.get_default_verify_paths()  # the variables are in it
    if found.cafile is not None or (found.capath is not None and any(Path(found.capath).glob("*.[0-9]"))):
        return ssl.create_default_context()
    for bundle in _BUNDLES:
        if Path(bundle).is_file():
            return ssl.create_default_context(cafile=bundle)
    return httpx.create_ssl_context(trust_env=False)
