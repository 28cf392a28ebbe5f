"""A self-signed certificate for servers of the sandbox, made anew at each start."""

from __future__ import annotations

import ssl
from datetime import datetime

from relay_project.net.self_signed import load_self_signed


def server_context(*names: str, now: datetime | None = None) -> tuple[ssl.SSLContext, str]:
    """A server's TLS context with a fresh certificate for host names or addresses; also the certificate as PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = load_self_signed(context, *names, now=now)
    return context, pem
