"""Where a webhook may lead: http or https, and to nobody's own network (lesson S2).

A name is judged by what it says. Where it leads is known only when it is dialled, and may be another place each time.
"""

import re
import socket
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

import idna
from django.conf import settings

from relay_project.web.errors import violation
from webhooks.guard import is_open

MAX_URL = 255  # characters, as the contract

# A mail server that is spoken to in HTTP, by an address that mail comes from, takes it for a spammer's.
MAIL_PORTS = (25, 465, 587)

NOT_A_URL = "This value is not a valid URL."
MAIL = "Webhooks do not go to the ports of mail servers."
PRIVATE = "This URL leads to a private address, which webhooks do not go to."

# Names that stand for this machine or its neighbours: RFC 6761 §6.3, RFC 6762 §3, RFC 8375, and ICANN's `internal`.
_NEAR = ("localhost", "local", "home.arpa", "internal")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_UNWRITABLE = re.compile(r"[\x00-\x20\x7f\\]")  # a backslash is a slash to browsers and none to others


def check_url(url: str) -> str:
    """The URL as it will be stored; raises Violations at `url`."""
    url = url.strip()
    host = _host_of(url)
    if host is None:
        raise violation("url", NOT_A_URL)
    if not _may_be_called(host):
        raise violation("url", PRIVATE)
    if urlsplit(url).port in MAIL_PORTS:
        raise violation("url", MAIL)
    return url


def _may_be_called(host: str) -> bool:
    """Whether calls may go there, by its spelling; what a name leads to is seen when it is dialled."""
    address = _address(host)
    if address is not None:
        return is_open(address)
    is_near = any(host == name or host.endswith(f".{name}") for name in _NEAR)
    return not is_near or settings.PRIVATE_WEBHOOKS or bool(settings.WEBHOOK_OPEN_NETWORKS)


def _host_of(url: str) -> str | None:
    """The host in lower case and A-labels; None for what is no http URL."""
    if len(url) > MAX_URL or _UNWRITABLE.search(url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or port == 0 or not parts.netloc.rpartition("@")[0].isascii():
        return None
    if ":" in host:
        return host if _address(host) else None
    host = _ascii(host.removesuffix("."))
    return host if host and all(_LABEL.fullmatch(label) for label in host.split(".")) else None


def _ascii(host: str) -> str | None:
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError:  # idna's errors are such
        return None


def _address(host: str) -> str | None:
    """The address that a host is, in whatever spelling: the C library reads 127.1, 0x7f000001 and 2130706433 as well."""
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return str(IPv4Address(socket.inet_aton(host)))
    except OSError:
        return None
