"""The addresses of this host, from which mail can leave.

Read from the C library's getifaddrs(3): the `ip` tool is not everywhere, and a look-up of our own host name tells what
somebody wrote into /etc/hosts. What the kernel thinks of an IPv6 address it says in /proc/net/if_inet6 alone.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import re
import socket
import sys
import uuid
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

Address = IPv4Address | IPv6Address

IFF_UP = 0x1  # net/if.h

# Flags of an IPv6 address (linux/if_addr.h). Temporary ones (RFC 8981) change by the day, and mail needs a name and a
# reputation; deprecated ones are on their way out; the others are not, or not yet, ours to use (RFC 4862).
IFA_F_TEMPORARY = 0x01
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40
UNFIT = IFA_F_TEMPORARY | IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE
IF_INET6 = Path("/proc/net/if_inet6")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NETWORK = Path("/proc/self/ns/net")

# All that has been given out of IPv6 (RFC 4291 §2.4). The rest counts as global, too, for Python: fec0::/10, which was for
# sites' own use, and ::ffff:0:0:0/96, in which translators carry IPv4 (RFC 7915).
GLOBAL_UNICAST = ip_network("2000::/3")
NAT64 = ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address (RFC 6052)

# Some proxies append the port: 192.0.2.7:51234 or [2001:db8::1]:51234 (RFC 7239 §6 writes it so, too).
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")


class AddressKind(StrEnum):
    """Who can reach an address."""

    PUBLIC = "public"
    PRIVATE = "private"  # RFC 1918, RFC 4193, shared, documentation: nobody on the internet
    LOOPBACK = "loopback"
    LINK_LOCAL = "link_local"  # only with an interface's name; no mail leaves from there


class _SockAddr(ctypes.Structure):
    _fields_ = [("family", ctypes.c_ushort), ("data", ctypes.c_ubyte * 26)]


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
]


def host_addresses() -> list[str]:
    """The addresses of interfaces that are up, without link-local and unfit IPv6 ones, in the kernel's order.

    Raises OSError when the kernel does not say.
    """
    if not sys.platform.startswith("linux"):  # sockaddr differs elsewhere; development there uses loopback
        return ["127.0.0.1", "::1"]
    found = dict.fromkeys(_interface_addresses())
    unfit = unfit_addresses(IF_INET6.read_text()) if IF_INET6.exists() else frozenset()
    return [address for address in found if kind_of(address) is not AddressKind.LINK_LOCAL and address not in unfit]


def unfit_addresses(if_inet6: str) -> frozenset[str]:
    """The IPv6 addresses that nothing should be sent from, out of the text of /proc/net/if_inet6.

    A line is the address in hexadecimal, then in hexadecimal too: interface index, prefix length, scope, flags; and the
    interface's name.
    """
    fields = (line.split() for line in if_inet6.splitlines())
    return frozenset(
        str(IPv6Address(bytes.fromhex(words[0]))) for words in fields if len(words) == 6 and int(words[4], 16) & UNFIT
    )


def network_identity() -> str:
    """Which network stack this process sees: processes that share it share its addresses, and no others do.

    The kernel's boot id and the network namespace; two machines and two containers differ, whatever they are called.
    """
    try:
        return f"{BOOT_ID.read_text().strip()} {NETWORK.readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def kind_of(address: str) -> AddressKind:
    """Who can reach `address`; raises ValueError for what is none."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        carried = IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in NAT64 else parsed.ipv4_mapped
        parsed = carried or parsed
    if parsed.is_loopback:
        return AddressKind.LOOPBACK
    if parsed.is_link_local:
        return AddressKind.LINK_LOCAL
    is_public = parsed.is_global and not parsed.is_multicast and (parsed.version == 4 or parsed in GLOBAL_UNICAST)
    return AddressKind.PUBLIC if is_public else AddressKind.PRIVATE


def read_address(text: str) -> Address | None:
    """An address with or without a port, an IPv4-mapped one as IPv4; None for anything else.

    The zone of a link-local one (fe80::1%eth0) is left out: it means something on one host only, and inet takes none.
    """
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def network_of(address: str | None) -> str:
    """Whom tries are counted for: an IPv4 address, or the /64 that one IPv6 customer has at the least (RFC 6177)."""
    parsed = read_address(address or "")
    if parsed is None:
        return "none"
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def can_bind(address: str) -> bool:
    """This host may send from `address`; on Linux that is so for all of 127.0.0.0/8."""
    try:
        family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((address, 0))
    except (OSError, ValueError):
        return False
    return True


def _interface_addresses() -> Iterator[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    head = ctypes.POINTER(_IfAddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, "getifaddrs failed")
    try:
        node = head
        while node:
            interface = node.contents
            if interface.flags & IFF_UP and interface.address:
                yield from _read(interface.address.contents)
            node = interface.next
    finally:
        libc.freeifaddrs(head)


def _read(address: _SockAddr) -> Iterator[str]:
    """Port and, in IPv6, flow label stand before the address (netinet/in.h)."""
    octets = bytes(address.data)
    if address.family == socket.AF_INET:
        yield str(IPv4Address(octets[2:6]))
    elif address.family == socket.AF_INET6:
        yield str(IPv6Address(octets[6:22]))
