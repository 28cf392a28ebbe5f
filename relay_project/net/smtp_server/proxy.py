"""The PROXY protocol, versions 1 and 2, as HAProxy's specification of 2020 has it. Pure.

A load balancer puts a header in front of the connection that names the client. Whoever may send it is trusted with that:
the server reads it from the networks of a setting and from nobody else.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

V1 = b"PROXY "
V2 = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_V1 = 107  # octets with CRLF; specification §2.1
MAX_V2 = 4096  # octets of addresses and TLVs; certificates of clients, the longest, are some hundred
_V1_FAMILIES = {b"TCP4": 4, b"TCP6": 6}
_V2_FAMILIES = {0x11: ("!4s4sHH", 4), 0x21: ("!16s16sHH", 6)}  # TCP over IPv4, over IPv6
_LOCAL, _PROXY = 0x20, 0x21


class BadProxyHeader(ValueError):
    """Not a header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The client as the proxy saw it, and how long the header was. Without addresses (a probe of the proxy's own, or a
    protocol that is not TCP) the connection's own hold."""

    length: int
    address: str | None = None
    port: int = 0
    local_address: str = ""
    local_port: int = 0


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that begins `data`; None while it is not whole. Raises BadProxyHeader."""
    if data.startswith(V2):
        return _read_v2(data)
    if data.startswith(V1):
        return _read_v1(data)
    if V1.startswith(data) or V2.startswith(data):
        return None
    raise BadProxyHeader("no header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise BadProxyHeader("the line has no end")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(end + 2)
    version = _V1_FAMILIES.get(words[1])
    if version is None or len(words) != 6:
        raise BadProxyHeader("not PROXY TCP4|TCP6 source destination port port")
    source, target = (_address(word, version) for word in words[2:4])
    return ProxyHeader(end + 2, source, _port(words[4]), target, _port(words[5]))


def _address(word: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(word.decode("ascii"))
    except ValueError:
        raise BadProxyHeader("not an address") from None
    if address.version != version or getattr(address, "scope_id", None):
        raise BadProxyHeader("an address of another family")
    return str(address)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise BadProxyHeader("not a port")
    return int(word)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack("!BBH", data[12:16])
    if command not in (_LOCAL, _PROXY) or length > MAX_V2:
        raise BadProxyHeader("not version 2, or longer than a header may be")
    if len(data) < 16 + length:
        return None
    if command == _LOCAL or family not in _V2_FAMILIES:
        return ProxyHeader(16 + length)
    layout, version = _V2_FAMILIES[family]
    if length < struct.calcsize(layout):
        raise BadProxyHeader("the addresses are cut")
    source, target, port, local_port = struct.unpack_from(layout, data, 16)
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return ProxyHeader(16 + length, str(make(source)), port, str(make(target)), local_port)
