"""Which certificate authorities are believed: the system's, and those of ``network.ca_file``.

The system's are OpenSSL's: what ``update-ca-certificates`` and its like install, and what
``$SSL_CERT_FILE`` and ``$SSL_CERT_DIR`` name. Where there are none (a bare container), those that come
along with httpx. Read once, into one context for all connections: it costs 50 ms, and truststore, which
finds the same files, reads them again for every connection (measured: 47 ms instead of 0.01).
"""

import os
import ssl
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
