"""Keeping what comes in: mails that come within a few milliseconds share one statement, and each is told of its commit.

What enters: a mail as it was received. What leaves: its row, and one that says that it is unread, in one transaction
(relay_project.db.rounds).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from relay_project.db.bound import bound_cursor
from relay_project.db.rounds import Rounds
from relay_project.db.trouble import note_trouble
from relay_project.mail.text import clean
from relay_project.metrics import Counter, Histogram

CHANNEL = "relay_inbound"  # NOTIFY: something is unread (sending.inbound.listen)
NOTIFY_SECONDS = 0.1  # at most so often; a reader that was woken goes on looking for longer than that
MAX_MAILS = 200  # of one statement
MAX_OCTETS = 16 * 1024 * 1024  # of one statement, unless a single mail has more
MAX_ADDRESS = 512  # characters kept of an address, the column's

log = structlog.get_logger()

STORED = Counter("relay_inbound_stored_total", "Mails that came in and were committed.")
REFUSED = Counter("relay_inbound_not_stored_total", "Mails that were told to come again, as the database was away.")
TOGETHER = Histogram(
    "relay_inbound_stored_together", "Mails of one commit.", buckets=(1, 2, 5, 10, 20, 50, 100, MAX_MAILS)
)

_INSERT = """
WITH given AS MATERIALIZED (
  SELECT new_id() AS id, r.* FROM ROWS FROM (
    jsonb_to_recordset(%s::jsonb) AS (peer text, helo text, tls text, mail_from text, recipients text[]),
    unnest(%s::bytea[])) WITH ORDINALITY AS r(peer, helo, tls, mail_from, recipients, octets, place)),
mails AS (
  INSERT INTO sending_inboundmail (id, peer, helo_name, tls, mail_from, recipients, octets, size_bytes, state, kind,
         trouble, correlation, findings)
  SELECT id, peer, helo, tls, mail_from, recipients, octets, length(octets), 'waiting', '', '', '', '[]' FROM given),
unread AS (
  INSERT INTO sending_unreadmail (mail_id, due_at, tries, size_bytes)
  SELECT id, clock_timestamp(), 0, length(octets) FROM given)
SELECT id FROM given ORDER BY place
"""


class NotStored(RuntimeError):
    """The mail is not committed, or nobody knows; its sender should come again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail as it was received. `octets` with CRLF lines, `mail_from` "" for <>."""

    peer: str
    helo_name: str
    tls: str
    mail_from: str
    recipients: tuple[str, ...]
    octets: bytes


def insert(mails: Sequence[Arrived]) -> list[int]:
    """Write mails in one statement; returns their ids in the order of the mails."""
    rows = [
        {
            "peer": clean(mail.peer, 64),
            "helo": clean(mail.helo_name, 255),
            "tls": clean(mail.tls, 16),
            "mail_from": clean(mail.mail_from, MAX_ADDRESS),
            "recipients": [clean(address, MAX_ADDRESS) for address in mail.recipients],
        }
        for mail in mails
    ]
    with bound_cursor() as cursor:
        cursor.execute(_INSERT, [orjson.dumps(rows).decode(), [mail.octets for mail in mails]])
        return [mail_id for (mail_id,) in cursor.fetchall()]


class Store:
    """`await store.keep(mail)` in the event loop: the mail's id after its commit, or NotStored."""

    def __init__(self) -> None:
        self._notified_at = -1e9
        self._rounds: Rounds[Arrived, int | NotStored] = Rounds(
            self._insert, "inbound-store", lambda mail: len(mail.octets), most=MAX_MAILS, most_octets=MAX_OCTETS
        )

    async def keep(self, mail: Arrived) -> int:
        """Have the mail committed, with whatever else waits for it now."""
        outcome = await self._rounds.do(mail)
        if isinstance(outcome, NotStored):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Finish what waits, and let go of the connection."""
        await self._rounds.close()

    def _insert(self, mails: Sequence[Arrived]) -> list[int | NotStored]:
        """In the thread. A lost connection leaves all of them unknown; a mail that the database refuses is its own."""
        try:
            ids = insert(mails)
        except (OperationalError, InterfaceError) as error:
            note_trouble("inbound", error, mails=len(mails))
            return _refused(mails, error)
        except Exception as error:
            if len(mails) > 1:
                return [outcome for mail in mails for outcome in self._insert([mail])]
            log.exception("inbound.not_stored", peer=mails[0].peer, size_bytes=len(mails[0].octets))
            return _refused(mails, error)
        STORED.inc(len(ids))
        TOGETHER.observe(len(ids))
        self._notify()
        return list(ids)

    def _notify(self) -> None:
        """Wake the reader; one that hears nothing looks by itself, so a failure is nobody's trouble."""
        now = time.monotonic()
        if now - self._notified_at < NOTIFY_SECONDS:
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
        except DatabaseError as error:
            note_trouble("inbound.notify", error)
        self._notified_at = now


def _refused(mails: Sequence[Arrived], error: Exception) -> list[int | NotStored]:
    REFUSED.inc(len(mails))
    return [NotStored(type(error).__name__) for _ in mails]
