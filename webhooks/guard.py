"""Where no call goes, whatever a name resolves to (lesson S2).

It is asked of each socket, for the address that this socket will connect to: a name that is public when it is looked up
first and private at the next look-up gains nothing.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings

from relay_project.net.addresses import Address, AddressKind, kind_of

PRIVATE = "It leads to a private address, which webhooks do not go to."

# Global by Python's tables, and yet a way to somebody's own network: NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056)
# carry an IPv4 address, as do IPv4-compatible ones (RFC 4291 §2.5.5.1) and Teredo's (RFC 4380); 192.0.0.0/24 is of
# protocols (RFC 6890), and the last is where clouds have their metadata, beside the link-local 169.254.169.254.
_CLOSED = tuple(
    map(
        ip_network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96", "2001::/32", "192.0.0.0/24", "fd00:ec2::/32"),
    )
)
# What PRIVATE_WEBHOOKS does not open.
_NEVER_PRIVATE = (AddressKind.LINK_LOCAL,)


class PrivateAddress(OSError):
    """Webhooks do not go there."""


def is_open(address: str) -> bool:
    """Whether calls may go to an address; raises ValueError for what is none."""
    parsed: Address = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if any(parsed.version == network.version and parsed in network for network in settings.WEBHOOK_OPEN_NETWORKS):
        return True
    kind = kind_of(str(parsed))
    if parsed.is_multicast or parsed.is_unspecified or parsed == IPv4Address("255.255.255.255"):
        return False
    if any(parsed.version == network.version and parsed in network for network in _CLOSED):
        return settings.PRIVATE_WEBHOOKS and kind is AddressKind.LOOPBACK  # ::1 is in ::/96
    if kind is AddressKind.PUBLIC:
        return True
    return settings.PRIVATE_WEBHOOKS and kind not in _NEVER_PRIVATE


def guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for what getaddrinfo gave; raises PrivateAddress."""
    family, kind, protocol, _, address = info
    if not is_open(str(address[0])):
        raise PrivateAddress(PRIVATE)
    return socket.socket(family, kind, protocol)
