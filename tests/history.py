"""Days of the past and what happened on them."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import count

from django.db.backends.utils import CursorWrapper

from projects.models import Domain, Event, Project
from queues.models import Queue
from relay_project.db.ids import id_floor, uuid_of
from relay_project.db.partitions import Day, existing_partitions, make_partition, partition_name, partitioned_tables
from sending.models import Attempt, AttemptRecipient, Content, Recipient, Send, Signature

_next = count(1)


def ago(days: int) -> date:
    """The UTC day so many days back."""
    return datetime.now(UTC).date() - timedelta(days=days)


def tables(cursor: CursorWrapper) -> set[str]:
    """The names of all tables, detached days included."""
    cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace")
    return {name for (name,) in cursor.fetchall()}


def make_days(cursor: CursorWrapper, days: Iterable[date]) -> None:
    """Every table's partition of these days."""
    for day in days:
        for table, column in partitioned_tables(cursor):
            if partition_name(table, day) not in existing_partitions(cursor):
                make_partition(cursor, table, column, Day.of(day))


def id_on(day: date) -> int:
    """An id of that day's noon; each call gives another."""
    return id_floor(datetime.combine(day, time(12), UTC)) + next(_next)


def happened(
    project: Project,
    day: date,
    *,
    domain: Domain,
    queue: Queue,
    status: str = "accepted",
    message_date: datetime | None = None,
    content_id: int | None = None,
    address: str = "ann@one.example",
) -> Send:
    """A send of that day with a recipient, an attempt and a signature, as the engine would have left them."""
    send_id = id_on(day)
    if content_id is None:
        content_id = id_on(day)
        Content.objects.create(pk=content_id, project_id=project.pk, body_text="Hello.\r\n")
    send = Send.objects.create(
        pk=send_id,
        uuid=uuid_of(send_id),
        project=project,
        queue=queue,
        domain=domain,
        content_id=content_id,
        from_address=f"app@{domain.domain}",
        subject="News",
        size_bytes=500,
        message_date=message_date or datetime.combine(day, time(12), UTC),
        writer_version=1,
        mailer="Relay v0",
        instance_domain="relay.test",
    )
    recipient = Recipient.objects.create(
        pk=id_on(day), send=send, project_id=project.pk, position=0, type="to", address=address, status=status
    )
    Signature.objects.create(send=send, header_lines=b"DKIM-Signature: v=1\r\n")
    attempt = Attempt.objects.create(
        pk=id_on(day),
        send_id=send_id,
        project_id=project.pk,
        queue_id=queue.pk,
        status="accepted",
        try_count=1,
        domain="one.example",
    )
    AttemptRecipient.objects.create(
        pk=id_on(day), attempt_id=attempt.pk, send_id=send_id, recipient_id=recipient.pk, recipient_status=status
    )
    Event.objects.create(
        pk=id_on(day),
        project_id=project.pk,
        kind="send.recipient.accepted",
        subject_kind="send",
        subject_id=send_id,
        payload={},
    )
    return send
