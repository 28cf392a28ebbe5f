"""Who is really calling: X-Forwarded-For and -Proto are believed only from the proxies that the operator named.

Lesson S4: by default nobody is trusted. The header is read from the right, since every hop appends what it saw itself;
the first address that is not one of ours is the client, and whatever stands left of it is the client's own invention.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from relay_project.net.addresses import Address, read_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


def _believe_scheme(request: HttpRequest) -> None:
    scheme = request.META.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
    if scheme in {"http", "https"}:
        request.META["wsgi.url_scheme"] = scheme
