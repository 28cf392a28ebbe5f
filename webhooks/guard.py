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

# Not to be had by PRIVATE_WEBHOOKS either. Ways to somebody's own network: NAT64 (RFC 6052, RFC 8215), translated
# (RFC 7915) and IPv4-compatible addresses (RFC 4291 §2.5.5.1), 6to4 (RFC 3056) with its relays (RFC 7526) and Teredo's
# (RFC 4380) carry an IPv4 address; 192.0.0.0/24 is of protocols (RFC 6890). Where clouds have their metadata, beside the
# link-local 169.254.169.254: Amazon's and Google's over IPv6, Alibaba's, and Azure's, which is a public address.
_CLOSED = tuple(
    map(
        ip_network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96", "2002::/16", "192.88.99.0/24", "2001::/32",
         "192.0.0.0/24", "fd00:ec2::/32", "fd20:ce::/32", "100.100.100.200/32", "168.63.129.16/32"),
    )
)  # fmt: skip
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
        return settings.PRIVATE_WEBHOOKS and parsed.is_loopback  # ::1 is in ::/96
    if kind is AddressKind.PUBLIC:
        return True
    return settings.PRIVATE_WEBHOOKS and kind not in _NEVER_PRIVATE


def guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for what getaddrinfo gave; raises PrivateAddress."""
    family, kind, protocol, _, address = info
    if not is_open(str(address[0])):
        raise PrivateAddress(PRIVATE)
    return socket.socket(family, kind, protocol)
