"""Looks up TXT records with dnspython, on trio and asyncio."""

from contextlib import suppress
from pathlib import Path
from typing import Protocol

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.resolver

from idiolectd.errors import IdentityError
from idiolectd.finish import in_thread

_DNS_SECONDS = 5.0


class TxtLookup(Protocol):
    """Looks up TXT records."""

    async def __call__(self, name: str) -> list[str]:
        """The TXT records of a name; empty if it has none.

        Raises:
            IdentityError: no DNS server could be asked (not final).
        """
        ...


class DnsTxt:
    """The `TxtLookup` that asks DNS servers.

    Args:
        resolver: the resolver to ask with; None: the system's, as it is configured at the time.
        conf: the system's resolver configuration.
    """

    def __init__(
        self, resolver: dns.asyncresolver.Resolver | None = None, *, conf: Path = Path("/etc/resolv.conf")
    ) -> None:
        self._resolver = resolver
        self._conf = None if resolver is not None else conf
        self._stamp: tuple[int, int, int] | None = None

    async def __call__(self, name: str) -> list[str]:
        """The records of a name, the strings of each joined (RFC 7208, section 3.3, does the same)."""
        try:
            resolver = await in_thread(self.resolver)
            # Passed each time: otherwise dnspython would keep the backend of this process's first event loop.
            backend = dns.asyncbackend.get_backend(dns.asyncbackend.sniff())
            answer = await resolver.resolve(name, "TXT", lifetime=_DNS_SECONDS, search=False, backend=backend)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError):
            raise IdentityError(f"the DNS could not be asked for {name}", final=False) from None
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]

    def resolver(self) -> dns.asyncresolver.Resolver:
        """The system's current resolver; blocks. dnspython by itself would never notice a change of network.

        Raises:
            dns.exception.DNSException: the system's configuration can't be read and never could be.
        """
        stamp = self._stamp
        if self._conf is not None:
            with suppress(OSError):  # while the file is being replaced
                found = self._conf.stat()
                stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._resolver is None or stamp != self._stamp:
            try:
                self._resolver = dns.asyncresolver.Resolver(filename=str(self._conf))
                self._stamp = stamp
            except dns.exception.DNSException:
                if self._resolver is None:
                    raise
        return self._resolver
