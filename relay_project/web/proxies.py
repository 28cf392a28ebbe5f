"""Who is really calling: X-Forwarded-For and -Proto are believed only from the proxies that the operator named.

Lesson S4: by default nobody is trusted. The header is read from the right, since every hop appends what it saw itself;
the first address that is not one of ours is the client, and whatever stands left of it is the client's own invention.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence

from django.conf import settings
from django.http import HttpRequest, HttpResponse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Some proxies append the port: 192.0.2.7:51234 or [2001:db8::1]:51234 (RFC 7239 §6 writes it so, too).
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")


class TrustedProxies:
    """Middleware, the outermost one: settles REMOTE_ADDR and the scheme before anybody looks at them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        peer = read_address(request.META.get("REMOTE_ADDR", ""))
        if peer is not None:
            hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
            request.META["REMOTE_ADDR"] = str(client_address(peer, hops, settings.TRUSTED_PROXIES))
            if is_trusted(peer, settings.TRUSTED_PROXIES):
                _believe_scheme(request)
        return self.get_response(request)


def client_address(peer: Address, hops: Sequence[str], trusted: Sequence[Network]) -> Address:
    """The right-most address that is not a trusted proxy; an unreadable hop ends what can be believed."""
    client = peer
    for hop in reversed(hops):
        if not is_trusted(client, trusted):
            break
        address = read_address(hop)
        if address is None:
            break
        client = address
    return client


def is_trusted(address: Address, trusted: Iterable[Network]) -> bool:
    """Whether an address is one of the operator's proxies."""
    return any(address in network for network in trusted)


def read_address(text: str) -> Address | None:
    """An address with or without a port, an IPv4-mapped one as IPv4; None for anything else.

    The zone of a link-local one (fe80::1%eth0) is left out: it means something on one host only, and inet takes none.
    """
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address


def network_of(address: str | None) -> str:
    """Whom tries are counted for: an IPv4 address, or the /64 that one IPv6 customer has at the least (RFC 6177)."""
    parsed = read_address(address or "")
    if parsed is None:
        return "none"
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _believe_scheme(request: HttpRequest) -> None:
    scheme = request.META.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
    if scheme in {"http", "https"}:
        request.META["wsgi.url_scheme"] = scheme
