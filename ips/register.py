"""What this host says of itself at every start and while its senders run: its server row and its source IPs.

An address that is no longer there is marked gone, never deleted: its row keeps the history and the EHLO name, and the
same address coming back is the same row (lesson C13). Two machines that name the same address, or go by the same name, do
not take from each other: the one that lives keeps, and health says so.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from ips.models import Server, SourceIp
from queues.models import Queue
from relay_project.db.locks import FIRST_START, advisory_lock
from relay_project.net.addresses import can_bind, host_addresses, network_identity

SILENT = timedelta(seconds=15)  # without a heartbeat (one a second); a restart of the database takes less
NAME_PATIENCE_SECONDS = 20.0  # a predecessor that was killed is silent by then
LOOK_SECONDS = 10.0
REGISTER_SECONDS = 60.0

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


class NameTaken(RuntimeError):
    """Another machine that lives goes by this one's SERVER_NAME; the message is a sentence for the operator."""


def register_host(now: datetime, is_here: Callable[[str], bool] = can_bind, *, fill: bool = True) -> Server:
    """Upsert this server and its addresses; `fill`: give free ones to default queues without any. Idempotent.

    What is named in SOURCE_IPS and cannot be sent from (`is_here`) counts as gone. An address that another living server
    has stays there and is marked contested. Raises NameTaken.
    """
    here = _addresses_here(is_here)
    with connection.cursor() as cursor, advisory_lock(cursor, FIRST_START), transaction.atomic():
        server = _server(now)
        is_ours = server.contested_at != now
        if is_ours:
            _register_addresses(server, here, now)
        if is_ours and fill:
            _fill_default_queues(server)
    if not is_ours:
        raise NameTaken(
            f"Another machine is running as {server.hostname}: give each machine a name of its own (SERVER_NAME)."
        )
    return server


def _register_addresses(server: Server, here: Sequence[HostAddress], now: datetime) -> None:
    for address in here:
        _register_address(server, address, now)
    absent = SourceIp.objects.filter(server=server, gone_at=None).exclude(address__in=[a.public for a in here])
    for source_ip in absent:
        log.warning("source_ip.gone", source_ip=source_ip.address, server=server.hostname)
    absent.update(gone_at=now)


def register_patiently(patience_seconds: float = NAME_PATIENCE_SECONDS) -> Server:
    """register_host, waiting for the one that had the name before us (a container that was replaced); raises NameTaken."""
    give_up = monotonic() + patience_seconds
    while True:
        try:
            return register_host(datetime.now(UTC))
        except NameTaken as taken:
            if monotonic() >= give_up:
                raise
            log.warning("server.name_taken", reason=str(taken))
            sleep(1)


@dataclass(slots=True)
class HostWatch:
    """Sees while a sender runs which addresses its host has gained and lost."""

    is_here: Callable[[str], bool] = can_bind
    _seen: frozenset[HostAddress] | None = None
    _looked_at: float = 0.0
    _wrote_at: float = 0.0

    def look(self) -> None:
        """Every LOOK_SECONDS compare with what was there, and register what changed; cheap in between.

        Registers every REGISTER_SECONDS in any case: what another machine let go of may be ours now.
        """
        clock = monotonic()
        if clock - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = clock
        try:
            seen = frozenset(_addresses_here(self.is_here))
        except OSError as error:
            log.warning("source_ip.unreadable", error=str(error))
            return
        if seen == self._seen and clock - self._wrote_at < REGISTER_SECONDS:
            return
        try:
            register_host(datetime.now(UTC), self.is_here, fill=seen != self._seen)
        except NameTaken as taken:
            log.error("server.name_taken", reason=str(taken))
        self._seen, self._wrote_at = seen, clock


def _addresses_here(is_here: Callable[[str], bool]) -> list[HostAddress]:
    """What SOURCE_IPS names and this host can send from, or all its public addresses."""
    named = read_source_ips(settings.SOURCE_IPS)
    if not named:
        return [HostAddress(address) for address in host_addresses() if is_public(address)]
    here = [address for address in named if is_here(address.bind or address.public)]
    for address in set(named) - set(here):
        log.warning("source_ip.not_here", source_ip=address.public, bind=address.bind)
    return here


def _server(now: datetime) -> Server:
    """Our row; with `contested_at` set to `now` when another machine lives under our name: nothing is changed then."""
    name, identity = server_name(), network_identity()
    server, _ = Server.objects.select_for_update().get_or_create(
        hostname=name, defaults={"identity": identity, "last_ping_at": now}
    )
    if server.identity not in ("", identity) and is_alive(server, now):
        server.contested_at = now
        server.save(update_fields=["contested_at"])
        return server
    server.identity, server.last_ping_at = identity, now
    server.save(update_fields=["identity", "last_ping_at"])
    return server


def is_alive(server: Server, now: datetime) -> bool:
    """A sender of it gave a sign of life lately."""
    return server.last_ping_at is not None and now - server.last_ping_at < SILENT


def is_public(address: str) -> bool:
    """Whether mail can leave from it without NAT."""
    return ipaddress.ip_address(address).is_global


def _register_address(server: Server, address: HostAddress, now: datetime) -> None:
    known = SourceIp.objects.select_related("server").filter(address=address.public).first()
    if known and known.server_id != server.pk and known.gone_at is None and is_alive(known.server, now):
        SourceIp.objects.filter(pk=known.pk).update(contested_by=server, contested_at=now)
        log.error(
            "source_ip.contested", source_ip=known.address, has_it=known.server.hostname, wants_it=server.hostname
        )
        return
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
