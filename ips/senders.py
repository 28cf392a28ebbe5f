"""Who is alive, and who serves which source IP.

A sender has a fresh id per start, a heartbeat row and session advisory locks on that id and on its IPs, held by one
direct connection. It is dead only if its lock is free *and* its heartbeat is older than 5 s *and* the database started
more than 15 s ago: a restart of the database or a killed connection frees the locks of the living.
"""

import math
import os
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.db import connection

from ips.register import HostWatch
from relay_project.db import locks
from relay_project.db.session import direct_parameters
from relay_project.net.addresses import network_identity

log = structlog.get_logger()

HEARTBEAT_STALE_SECONDS = 5
DATABASE_SETTLE_SECONDS = 15

# Senders whose lock is free and whose heartbeat is stale, unless the database itself has just started.
DEAD_SENDERS = f"""
SELECT s.id FROM ips_sender s
 WHERE s.heartbeat_at < clock_timestamp() - interval '{HEARTBEAT_STALE_SECONDS} seconds'
   AND pg_postmaster_start_time() < clock_timestamp() - interval '{DATABASE_SETTLE_SECONDS} seconds'
   AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND l.classid = {locks.SENDER} AND l.objid = s.id::int)
"""  # noqa: S608 — constants only

# With each IP one of the other family that carries the same queue: what only that one reaches moves to it.
_CANDIDATES = f"""
SELECT i.id, host(i.address), host(coalesce(i.bind_address, i.address)), i.queue_id, i.served_by_id, q.is_default,
       (SELECT o.id FROM ips_sourceip o WHERE o.queue_id = i.queue_id AND o.is_enabled AND o.gone_at IS NULL
           AND family(coalesce(o.bind_address, o.address)) <> family(coalesce(i.bind_address, i.address))
           AND o.served_by_id IS NOT NULL
         ORDER BY o.server_id <> i.server_id, (o.id + i.id) %% 7, o.id LIMIT 1)
  FROM ips_sourceip i JOIN queues_queue q ON q.id = i.queue_id
  JOIN ips_server v ON v.id = i.server_id AND v.identity IN ('', %(identity)s)
 WHERE i.server_id = %(server)s AND i.is_enabled AND i.gone_at IS NULL AND i.queue_id IS NOT NULL
   AND (i.served_by_id IS NULL OR i.served_by_id = %(me)s OR i.served_by_id IN ({DEAD_SENDERS}))
 ORDER BY i.id
"""  # noqa: S608

_COUNTS = f"""
SELECT (SELECT count(*) FROM ips_sourceip i
         WHERE i.server_id = %(server)s AND i.is_enabled AND i.gone_at IS NULL AND i.queue_id IS NOT NULL),
       (SELECT count(*) FROM ips_sender s WHERE s.server_id = %(server)s
           AND s.heartbeat_at >= clock_timestamp() - interval '{HEARTBEAT_STALE_SECONDS} seconds')
"""  # noqa: S608

# A default queue without a usable IP anywhere borrows those of the other default queues, never those of queues that
# somebody set apart.
_BORROWERS = """
SELECT q.id FROM queues_queue q
 WHERE q.is_default AND NOT EXISTS (
   SELECT FROM ips_sourceip i WHERE i.queue_id = q.id AND i.is_enabled AND i.gone_at IS NULL)
"""


@dataclass(frozen=True, slots=True)
class ServedIp:
    """A source IP that this process serves, and the queues whose mail it carries."""

    id: int
    address: str
    bind_address: str
    queue_ids: tuple[int, ...]
    other_family: int | None = None  # a source IP of the same queue for receivers that have no address of our family

    @property
    def helo_name(self) -> str:
        """The same name as SourceIp.helo_name."""
        return f"smtp{self.id}.{settings.INSTANCE_DOMAIN}"


@dataclass(slots=True)
class Registration:
    """One start of one sender process. Its methods block: call them from a database thread."""

    server_id: int
    watch: HostWatch | None = None  # asked before each refresh which addresses the host has
    sender_id: int = 0
    ips: dict[int, ServedIp] = field(default_factory=dict)
    _locked: set[int] = field(default_factory=set)  # IPs whose locks we hold: those served and those being handed back
    _lock_connection: psycopg.Connection[tuple[object, ...]] | None = None

    def start(self) -> None:
        """Take a fresh id and its lock."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ips_sender (server_id, pid) VALUES (%s, %s) RETURNING id", [self.server_id, os.getpid()]
            )
            self.sender_id = cursor.fetchone()[0]
        self.retake_locks()

    @property
    def holds_lock(self) -> bool:
        """The lock connection answers."""
        if self._lock_connection is None or self._lock_connection.closed:
            return False
        try:
            self._lock_connection.execute("SELECT 1")
        except psycopg.Error:
            self._drop_lock_connection()
            return False
        return True

    def retake_locks(self) -> bool:
        """Open the lock connection again and take the locks of our id and our IPs; False when one is not to be had."""
        self._drop_lock_connection()
        self._lock_connection = psycopg.connect(**direct_parameters("relay sender lock"), autocommit=True)
        if not self._try(locks.SENDER, self.sender_id):
            return False
        for ip_id in sorted(self._locked):
            if not self._try(locks.SOURCE_IP, ip_id):
                self._locked.discard(ip_id)
                self.ips.pop(ip_id, None)
        return True

    def beat(self) -> None:
        """Write the heartbeat, on the ordinary connection."""
        with connection.cursor() as cursor:
            cursor.execute("UPDATE ips_sender SET heartbeat_at = clock_timestamp() WHERE id = %s", [self.sender_id])
            cursor.execute(
                "UPDATE ips_sourceip SET served_at = clock_timestamp() WHERE served_by_id = %s", [self.sender_id]
            )
            cursor.execute(
                "UPDATE ips_server SET last_ping_at = clock_timestamp() WHERE id = %s AND identity IN ('', %s)",
                [self.server_id, network_identity()],
            )

    def refresh_ips(self) -> set[int]:
        """Take free IPs up to our share and follow changes; returns IPs that we must stop serving (not yet released).

        The share is ⌈IPs of the host / live senders of the host⌉. Where another machine goes by our server's name there
        is nothing to take.
        """
        if self.watch is not None:
            self.watch.look()
        with connection.cursor() as cursor:
            here: dict[str, Any] = {"server": self.server_id, "me": self.sender_id, "identity": network_identity()}
            cursor.execute(_CANDIDATES, here)
            candidates = cursor.fetchall()
            cursor.execute(_COUNTS, {"server": self.server_id})
            ip_count, sender_count = cursor.fetchone()
            cursor.execute(_BORROWERS)
            borrowers = tuple(row[0] for row in cursor.fetchall())
            share = math.ceil(ip_count / max(sender_count, 1))
            mine: dict[int, ServedIp] = {}
            for ip_id, address, bind_address, queue_id, served_by, lends, other in sorted(
                candidates, key=lambda c: c[0] not in self.ips
            ):
                if len(mine) < share and self._serve(cursor, ip_id, served_by):
                    queue_ids = (queue_id, *(borrowers if lends else ()))
                    mine[ip_id] = ServedIp(ip_id, address, bind_address, queue_ids, other)
        self.ips = mine
        return self._locked - set(mine)

    def _serve(self, cursor: object, ip_id: int, served_by: int | None) -> bool:
        if ip_id in self.ips:
            return True
        # One that is still being handed back is ours: session locks stack, and would outlive their release.
        if ip_id not in self._locked and not self._try(locks.SOURCE_IP, ip_id):
            return False
        self._locked.add(ip_id)
        cursor.execute(  # type: ignore[attr-defined]
            "UPDATE ips_sourceip SET served_by_id = %s, served_at = clock_timestamp() WHERE id = %s",
            [self.sender_id, ip_id],
        )
        log.info("source_ip.taken", source_ip_id=ip_id, sender=self.sender_id, from_sender=served_by)
        return True

    def release(self, ip_id: int) -> None:
        """Give an IP up; the caller has closed its connections and holds no mail on it."""
        if ip_id in self.ips or ip_id not in self._locked:
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE ips_sourceip SET served_by_id = NULL WHERE id = %s AND served_by_id = %s",
                [ip_id, self.sender_id],
            )
        if self._lock_connection is not None:
            self._lock_connection.execute("SELECT pg_advisory_unlock(%s, %s)", [locks.SOURCE_IP, ip_id])
        self._locked.discard(ip_id)

    def stop(self) -> None:
        """Give everything up and leave: what we held may be taken at once."""
        with connection.cursor() as cursor:
            cursor.execute("UPDATE ips_sourceip SET served_by_id = NULL WHERE served_by_id = %s", [self.sender_id])
            cursor.execute("DELETE FROM ips_sender WHERE id = %s", [self.sender_id])
        self.ips = {}
        self._locked.clear()
        self._drop_lock_connection()

    def _try(self, lock_class: int, key: int) -> bool:
        if self._lock_connection is None:
            return False
        row = self._lock_connection.execute("SELECT pg_try_advisory_lock(%s, %s)", [lock_class, key]).fetchone()
        return bool(row and row[0])

    def _drop_lock_connection(self) -> None:
        if self._lock_connection is not None:
            self._lock_connection.close()
            self._lock_connection = None
