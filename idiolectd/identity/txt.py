"""TXT records, by dnspython, on trio and asyncio alike."""

from typing import Protocol

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.resolver

from idiolectd.errors import IdentityError

_DNS_SECONDS = 5.0


class TxtLookup(Protocol):
    """Looks up TXT records."""

    async def __call__(self, name: str) -> list[str]:
        """The records of a name; none if it has none.

        Raises:
            IdentityError: nobody could be asked (not final).
        """
        ...


class DnsTxt:
    """`TxtLookup` by DNS.

    Args:
        resolver: whom to ask; None: whom the system asks.
    """

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = resolver

    async def __call__(self, name: str) -> list[str]:
        """The records of a name, the strings of each joined (RFC 7208, section 3.3, does the same)."""
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            # Named each time: by itself dnspython keeps the first one that it met in this process.
            backend = dns.asyncbackend.get_backend(dns.asyncbackend.sniff())
            answer = await self._resolver.resolve(
                name, "TXT", lifetime=_DNS_SECONDS, search=False, backend=backend
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError):
            raise IdentityError(f"the DNS could not be asked for {name}", final=False) from None
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
