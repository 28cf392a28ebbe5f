"""The Received: field of a mail that came in (RFC 5321 §4.4)."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from ipaddress import ip_address

from relay_project.net.smtp_server.model import Mail, Peer

_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
MAX_FOR = 254  # octets


def received_header(mail: Mail, hostname: str, now: datetime) -> bytes:
    """The whole field with its last CRLF. What the client said of itself is written only where it reads as a name.

    A single recipient is named; of several none is, since the field would tell each of the others (RFC 5321 §7.2).
    """
    peer = mail.peer
    lines = [
        f"Received: from {_name(peer.helo)} ({_literal(peer.address)})",
        f"by {hostname} with {protocol(mail)}{_tls(peer)}",
    ]
    if len(mail.recipients) == 1 and _is_plain(address := mail.recipients[0].address):
        lines.append(f"for <{address}>")
    text = "\r\n\t".join(lines) + f";\r\n\t{format_datetime(now)}\r\n"
    return text.encode()


def protocol(mail: Mail) -> str:
    """The word of RFC 3848 and RFC 6531 §4.3: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTPSA …"""
    peer = mail.peer
    if not peer.esmtp:
        return "SMTP"
    word = "UTF8SMTP" if mail.smtputf8 else "ESMTP"
    return word + ("S" if peer.tls else "") + ("A" if mail.login is not None else "")


def _name(helo: str) -> str:
    return helo if _HELO.fullmatch(helo) else "unknown"


def _literal(address: str) -> str:
    """As RFC 5321 §4.1.3 writes addresses."""
    return f"[IPv6:{address}]" if ip_address(address).version == 6 else f"[{address}]"


def _tls(peer: Peer) -> str:
    return f" ({peer.tls}{' ' + peer.cipher if peer.cipher else ''})" if peer.tls else ""


def _is_plain(address: str) -> bool:
    """Whether it can stand in a field as it is."""
    return (
        address.isprintable() and len(address.encode()) <= MAX_FOR and not any(char in address for char in '<>()"\\ ')
    )
