"""What a claimed batch needs to be composed: read once per batch, in the database thread that claimed it.

Every statement carries a literal range of ids: the partitions that cannot match are left out when it is planned.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection
from django.db.backends.utils import CursorWrapper

from projects.models import Domain, DomainStatus, ReturnPathStatus
from projects.models.domain import MAY_SEND
from relay_project.db.ids import hours_after
from relay_project.mail.dkim import Signer
from sending.content import StoredMessage, signers_for
from sending.deliver.claim import Claimed
from sending.labels import Labels, labels
from sending.suppress import Standing, standing_among

Row = tuple[Any, ...]

LIST = 16  # where the list's name stands in a row of _SENDS
KEY_SECONDS = 15.0  # how long a domain's keys are kept in memory; a rotation keeps the old key published for longer


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient of a job: its waiting row and its address."""

    row: Claimed
    address: str
    is_suppressed: bool
    has_soft_bounces: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to be made: the recipients of one send in one domain."""

    attempt_id: int
    send_id: int
    project_id: int
    queue_id: int
    source_ip_id: int
    domain: str
    targets: tuple[Target, ...]
    stored: StoredMessage | None  # None: its rows are gone; the attempt fails with that reason
    signers: tuple[Signer, ...]
    instance_domain: str
    return_path: str  # the domain of MAIL FROM
    signature: bytes | None  # of an earlier attempt, to be reused
    claimed_at: float  # time.monotonic() at the claim: deadline and lease count from here
    forwarded_from: str | None = None  # the envelope sender of a mail that is passed on, "" for <>
    trouble: str = ""  # why there is nothing to send
    stopped: str = ""  # the From domain's status, where that forbids sending
    is_test: bool = False  # made with a test key: rehearsed, never dialled
    labels: Labels = field(default_factory=dict)  # what its events say of the send

    @property
    def tries(self) -> int:
        """The number of this try, from 1."""
        return max([target.row.tries for target in self.targets])

    @property
    def priority(self) -> int:
        """Of its most urgent recipient; lower leaves first."""
        return min([target.row.priority for target in self.targets])

    @property
    def is_signable(self) -> bool:
        """The From domain's key is there, which goes with the domain when that is deleted; or none is needed."""
        return (
            self.stored is None
            or self.forwarded_from is not None
            or self.stored.from_domain in [signer.domain for signer in self.signers]
        )

    @property
    def size_bytes(self) -> int:
        """For the allowance of bytes in flight."""
        return self.targets[0].row.size_bytes


@dataclass(frozen=True, slots=True)
class Signing:
    """A From domain's signers, its status where that forbids sending, and its return path where it has one (else empty)."""

    signers: tuple[Signer, ...]
    stopped: str
    return_path: str


@dataclass(slots=True)
class KeyCache:
    """Signers by (domain, instance domain), for a few seconds."""

    kept: dict[tuple[int, str], tuple[float, Signing]] = field(default_factory=dict)

    def signing(self, domain_id: int, instance_domain: str) -> Signing:
        """What signs for a From domain; read anew when older than KEY_SECONDS."""
        key, clock = (domain_id, instance_domain), time.monotonic()
        found = self.kept.get(key)
        if found is None or clock - found[0] > KEY_SECONDS:
            if len(self.kept) > 10_000:
                self.kept.clear()
            found = self.kept[key] = (clock, _read_signing(domain_id, instance_domain))
        return found[1]


def _read_signing(domain_id: int, instance_domain: str) -> Signing:
    columns = ("status", "return_path", "return_path_status")
    row = Domain.objects.filter(pk=domain_id).values_list(*columns).first()
    status, return_path, return_path_status = row or (DomainStatus.ACTIVE, None, None)
    return Signing(
        tuple(signers_for(domain_id, instance_domain)),
        "" if status in MAY_SEND else status,
        return_path if return_path and return_path_status == ReturnPathStatus.ACTIVE else "",
    )


_SENDS = """
SELECT s.id, s.uuid, s.domain_id, s.from_address, s.from_name, s.subject, s.message_date, s.writer_version, s.mailer,
       s.instance_domain, c.body_html, c.body_text, c.headers::text, c.attachments::text, c.attachment_bodies,
       g.header_lines, s.list, s.list_unsubscribe, s.tags, s.metadata::text, s.is_test,
       c.raw, s.variables::text, s.forwarded_from
  FROM sending_send s
  JOIN sending_content c ON c.id = s.content_id AND c.id BETWEEN %(content_low)s AND %(high)s
  LEFT JOIN sending_signature g ON g.send_id = s.id AND g.send_id BETWEEN %(low)s AND %(high)s
 WHERE s.id = ANY(%(ids)s) AND s.id BETWEEN %(low)s AND %(high)s
"""
_RECIPIENTS = """
SELECT r.send_id, r.id, r.type, r.address, r.name FROM sending_recipient r
 WHERE r.send_id = ANY(%(ids)s) AND r.id BETWEEN %(low)s AND %(high)s ORDER BY r.send_id, r.position
"""


def load(claimed: Sequence[Claimed], keys: KeyCache, claimed_at: float) -> list[Job]:
    """The jobs of a claimed batch."""
    if not claimed:
        return []
    send_ids = sorted({row.send_id for row in claimed})
    with connection.cursor() as cursor:
        sends = _read_sends(cursor, send_ids)
        recipients = _read_recipients(cursor, send_ids)
        standing = _read_standing(cursor, claimed, sends, recipients)
    groups: dict[int, list[Claimed]] = defaultdict(list)
    for row in claimed:
        groups[row.attempt_id].append(row)
    return [_job(rows, sends, recipients, standing, keys, claimed_at) for rows in groups.values()]


def broken_job(rows: Sequence[Claimed], claimed_at: float, trouble: str) -> Job:
    """A job whose stored message cannot be read: it is tried like any other, fails with the reason, and backs off."""
    first = rows[0]
    return Job(
        attempt_id=first.attempt_id,
        send_id=first.send_id,
        project_id=first.project_id,
        queue_id=first.queue_id,
        source_ip_id=first.source_ip_id,
        domain=first.domain,
        targets=tuple(Target(row, "", is_suppressed=False) for row in rows),
        stored=None,
        signers=(),
        instance_domain="",
        return_path="",
        signature=None,
        claimed_at=claimed_at,
        trouble=trouble,
        is_test=first.is_test,
    )


def _read_sends(cursor: CursorWrapper, ids: Sequence[int]) -> dict[int, Row]:
    # A content is at most as old as its send's day allows; shared contents of batches are written with their sends.
    cursor.execute(_SENDS, {"ids": list(ids), "low": ids[0], "content_low": hours_after(ids[0], -1), "high": ids[-1]})
    return {row[0]: row for row in cursor.fetchall()}


def _read_recipients(cursor: CursorWrapper, ids: Sequence[int]) -> dict[int, list[tuple[int, str, str, str]]]:
    cursor.execute(_RECIPIENTS, {"ids": list(ids), "low": ids[0], "high": hours_after(ids[-1], 1)})
    found: dict[int, list[tuple[int, str, str, str]]] = defaultdict(list)
    for send_id, recipient_id, kind, address, name in cursor.fetchall():
        found[send_id].append((recipient_id, kind, address, name))
    return found


def _read_standing(
    cursor: CursorWrapper,
    claimed: Iterable[Claimed],
    sends: dict[int, Row],
    recipients: dict[int, list[tuple[int, str, str, str]]],
) -> dict[int, Standing]:
    """By project: who was suppressed since they were accepted (lesson C8), also from a list, and who has soft bounces."""
    wanted = {row.recipient_id for row in claimed}
    addresses: dict[int, set[str]] = defaultdict(set)
    lists: dict[int, set[str]] = defaultdict(set)
    for row in claimed:
        addresses[row.project_id] |= {r[2] for r in recipients.get(row.send_id, ()) if r[0] in wanted}
        if row.send_id in sends and (name := sends[row.send_id][LIST]) is not None:
            lists[row.project_id].add(name)
    return {
        project_id: standing_among(cursor, project_id, among, lists[project_id])
        for project_id, among in addresses.items()
    }


def _job(
    rows: list[Claimed],
    sends: dict[int, Row],
    recipients: dict[int, list[tuple[int, str, str, str]]],
    standing: dict[int, Standing],
    keys: KeyCache,
    claimed_at: float,
) -> Job:
    first = rows[0]
    send = sends.get(first.send_id)
    people = recipients.get(first.send_id, [])
    addresses = {recipient_id: address for recipient_id, _, address, _ in people}
    if send is None or any(row.recipient_id not in addresses for row in rows):
        return broken_job(rows, claimed_at, "the stored message is gone")
    instance_domain = str(send[9])
    signing = keys.signing(send[2], instance_domain)
    stands = standing[first.project_id]
    tags, metadata, is_test, forwarded_from = send[18], send[19], send[20] or first.is_test, send[23]
    return Job(
        attempt_id=first.attempt_id,
        send_id=first.send_id,
        project_id=first.project_id,
        queue_id=first.queue_id,
        source_ip_id=first.source_ip_id,
        domain=first.domain,
        targets=tuple(
            Target(row, address, stands.suppresses(address, send[LIST]), stands.has_soft_bounces(address))
            for row in sorted(rows, key=lambda r: r.recipient_id)
            for address in [addresses[row.recipient_id]]
        ),
        stored=_stored(send, people),
        signers=signing.signers if forwarded_from is None else (),  # of somebody else's From no key is ours
        stopped="" if is_test and signing.stopped == DomainStatus.PENDING else signing.stopped,
        instance_domain=instance_domain,
        return_path=signing.return_path or instance_domain,
        signature=bytes(send[15]) if send[15] is not None else None,
        claimed_at=claimed_at,
        forwarded_from=forwarded_from,
        is_test=is_test,
        labels=labels(tags, None if metadata is None else orjson.loads(metadata), is_test),
    )


def _stored(send: Row, people: list[tuple[int, str, str, str]]) -> StoredMessage:
    (
        _,
        uuid,
        _,
        from_address,
        from_name,
        subject,
        date,
        writer,
        mailer,
        _,
        html,
        text,
        headers,
        attachments,
        bodies,
        _,
        _,
        list_unsubscribe,
        *_,
        raw,
        variables,
        forwarded_from,
    ) = send
    return StoredMessage(
        uuid=uuid,
        from_address=from_address,
        from_name=from_name,
        subject=subject,
        message_date=date,
        writer_version=writer,
        mailer=mailer,
        body_html=html,
        body_text=text,
        headers=orjson.loads(headers),
        attachments=orjson.loads(attachments),
        attachment_bodies=bodies or [],
        recipients=[(kind, address, name) for _, kind, address, name in people],
        list_unsubscribe=list_unsubscribe,
        raw=None if raw is None else bytes(raw),
        variables=None if variables is None else orjson.loads(variables),
        is_forwarded=forwarded_from is not None,
    )
