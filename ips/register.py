"""What this host says of itself at every start: its server row and its source IPs.

An address that is no longer there is marked gone, never deleted: its row keeps the history and the EHLO name, and the
same address coming back is the same row (lesson C13).
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from ips.models import Server, SourceIp
from queues.models import Queue
from relay_project.db.locks import FIRST_START, advisory_lock
from relay_project.net.addresses import host_addresses

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A source address as receivers see it, and the local one to bind where they differ (NAT)."""

    public: str
    bind: str | None = None


def read_source_ips(entries: Iterable[str]) -> list[HostAddress]:
    """SOURCE_IPS: `192.0.2.1` or, behind NAT, `192.0.2.1=10.0.0.5`; raises ImproperlyConfigured."""
    found = []
    for entry in entries:
        public, _, bind = entry.strip().partition("=")
        try:
            found.append(
                HostAddress(str(ipaddress.ip_address(public)), str(ipaddress.ip_address(bind)) if bind else None)
            )
        except ValueError:
            raise ImproperlyConfigured(f"SOURCE_IPS must list addresses such as 192.0.2.1, not {entry!r}.") from None
    return found


def server_name() -> str:
    """SERVER_NAME, else the host's name."""
    return settings.SERVER_NAME or socket.gethostname()


def register_host(now: datetime) -> Server:
    """Upsert this server and its addresses; give the first free ones to default queues without any. Idempotent."""
    wanted = read_source_ips(settings.SOURCE_IPS) or [HostAddress(a) for a in host_addresses() if is_public(a)]
    with connection.cursor() as cursor, advisory_lock(cursor, FIRST_START), transaction.atomic():
        server, _ = Server.objects.update_or_create(hostname=server_name(), defaults={"last_ping_at": now})
        for address in wanted:
            _register_address(server, address)
        absent = SourceIp.objects.filter(server=server, gone_at=None).exclude(address__in=[a.public for a in wanted])
        for source_ip in absent:
            log.warning("source_ip.gone", source_ip=source_ip.address, server=server.hostname)
        absent.update(gone_at=now)
        _fill_default_queues(server)
    return server


def is_public(address: str) -> bool:
    """Whether mail can leave from it without NAT."""
    return ipaddress.ip_address(address).is_global


def _register_address(server: Server, address: HostAddress) -> None:
    SourceIp.objects.update_or_create(
        address=address.public, defaults={"server": server, "bind_address": address.bind, "gone_at": None}
    )


def _fill_default_queues(server: Server) -> None:
    """A default queue without a usable IP gets one of this host's that has no queue."""
    free = list(SourceIp.objects.filter(server=server, queue=None, gone_at=None, is_enabled=True).order_by("id"))
    empty = Queue.objects.filter(is_default=True).exclude(
        source_ips__in=SourceIp.objects.filter(gone_at=None, is_enabled=True)
    )
    for queue, source_ip in zip(empty.order_by("-name"), free, strict=False):  # transactional first
        SourceIp.objects.filter(pk=source_ip.pk).update(queue=queue)
        log.info("source_ip.assigned", source_ip=source_ip.address, queue=queue.name)
