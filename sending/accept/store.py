"""Writing what was accepted: ids drawn first, then one statement for contents, sends, recipients and waiting rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from projects.models import Domain
from queues.models import Queue
from relay_project.db.ids import uuid_of
from relay_project.mail.mime import LATEST_VERSION
from sending.accept.request import RequestedRecipient, SendRequest
from sending.content import StoredMessage
from sending.models import Phase, Priority, RecipientStatus


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that passed the rules, with the ids it will have."""

    request: SendRequest
    domain: Domain
    recipients: list[RequestedRecipient]
    send_id: int
    content_id: int
    recipient_ids: list[int]
    stored: StoredMessage
    size_bytes: int
    priority: Priority = Priority.TRANSACTIONAL
    suppressed: frozenset[str] = frozenset()

    def status(self, recipient: RequestedRecipient) -> RecipientStatus:
        """Suppressed recipients are final at once."""
        return RecipientStatus.SUPPRESSED if recipient.address in self.suppressed else RecipientStatus.QUEUED


def draw_ids(cursor: CursorWrapper, count: int) -> list[int]:
    """That many new ids, ascending."""
    cursor.execute("SELECT new_id() FROM generate_series(1, %s)", [count])
    return sorted(row[0] for row in cursor.fetchall())


def mailer() -> str:
    """The X-Mailer line."""
    return f"{settings.PRODUCT_NAME} v{settings.VERSION}"


def stored_form(
    request: SendRequest, recipients: Sequence[RequestedRecipient], from_address: str, send_id: int, now: datetime
) -> StoredMessage:
    """What the bytes of this send will be made of."""
    date = max(now, request.send_after or now).replace(microsecond=0)
    return StoredMessage(
        uuid=uuid_of(send_id),
        from_address=from_address,
        from_name=request.from_.name or None,
        subject=request.subject,
        message_date=date,
        writer_version=LATEST_VERSION,
        mailer=mailer(),
        body_html=request.body_html,
        body_text=request.body_text,
        headers=request.headers,
        attachments=[
            {"name": a.name, "content_type": a.content_type, "content_id": a.content_id} for a in request.attachments
        ],
        attachment_bodies=[a.content for a in request.attachments],
        recipients=[(r.type.value, r.address, r.name) for r in recipients],
    )


_INSERT = """
WITH content AS (
  INSERT INTO sending_content (id, project_id, body_html, body_text, headers, attachments, attachment_bodies)
  SELECT c.id, %(project)s, c.html, c.text, c.headers::jsonb, c.attachments::jsonb,
         CASE WHEN c.attachments = '[]' THEN '{}'::bytea[] ELSE %(bodies)s::bytea[] END
    FROM unnest(%(content_ids)s::bigint[], %(htmls)s::text[], %(texts)s::text[], %(headers)s::text[],
                %(attachments)s::text[]) AS c(id, html, text, headers, attachments)
), send AS (
  INSERT INTO sending_send (id, uuid, project_id, queue_id, domain_id, content_id, from_address, from_name, subject,
                            size_bytes, message_date, writer_version, mailer, instance_domain, priority)
  SELECT s.id, s.uuid, %(project)s, %(queue)s, s.domain, s.content, s.from_address, s.from_name, s.subject, s.size,
         s.date, %(writer)s, %(mailer)s, %(instance)s, s.priority
    FROM unnest(%(send_ids)s::bigint[], %(uuids)s::uuid[], %(domains)s::bigint[], %(content_ids)s::bigint[],
                %(from_addresses)s::text[], %(from_names)s::text[], %(subjects)s::text[], %(sizes)s::int[],
                %(dates)s::timestamptz[], %(priorities)s::smallint[])
      AS s(id, uuid, domain, content, from_address, from_name, subject, size, date, priority)
), recipient AS (
  INSERT INTO sending_recipient (id, send_id, project_id, position, type, address, name, status, try_count)
  SELECT r.id, r.send, %(project)s, r.position, r.type, r.address, r.name, r.status, 0
    FROM unnest(%(r_ids)s::bigint[], %(r_sends)s::bigint[], %(r_positions)s::smallint[], %(r_types)s::text[],
                %(r_addresses)s::text[], %(r_names)s::text[], %(r_statuses)s::text[])
      AS r(id, send, position, type, address, name, status)
)
INSERT INTO sending_waiting (recipient_id, send_id, project_id, queue_id, lane, priority, domain, size_bytes, phase,
                             due_at, tries, lost, since)
SELECT w.id, w.send, %(project)s, %(queue)s, %(queue)s, w.priority, w.domain, w.size, w.phase, w.due, 0, 0,
       CASE WHEN w.phase = 1 THEN w.due END
  FROM unnest(%(w_ids)s::bigint[], %(w_sends)s::bigint[], %(w_domains)s::text[], %(w_sizes)s::int[],
              %(w_phases)s::smallint[], %(w_dues)s::timestamptz[], %(w_priorities)s::smallint[])
    AS w(id, send, domain, size, phase, due, priority)
"""


def insert(cursor: CursorWrapper, project_id: int, queue: Queue, drafts: Sequence[Draft], now: datetime) -> int:
    """Write the drafts in the caller's transaction; returns how many recipients wait and are due now."""
    columns = _columns(drafts, now)
    plain = [draft for draft in drafts if not draft.request.attachments]
    common: dict[str, Any] = {
        "project": project_id,
        "queue": queue.pk,
        "writer": LATEST_VERSION,
        "mailer": mailer(),
        "instance": settings.INSTANCE_DOMAIN,
    }
    if len(plain) == len(drafts):
        cursor.execute(_INSERT, {**common, **columns, "bodies": []})
    else:  # an array of arrays of different lengths does not exist in SQL: bodies go one send at a time
        for draft in drafts:
            bodies = [bytes(body) for body in draft.stored.attachment_bodies]
            cursor.execute(_INSERT, {**common, **_columns([draft], now), "bodies": bodies})
    return sum(phase == Phase.DUE for phase in columns["w_phases"])


def _columns(drafts: Sequence[Draft], now: datetime) -> dict[str, list[Any]]:
    stored = [draft.stored for draft in drafts]
    columns: dict[str, list[Any]] = {
        "content_ids": [d.content_id for d in drafts],
        "send_ids": [d.send_id for d in drafts],
        "domains": [d.domain.pk for d in drafts],
        "sizes": [d.size_bytes for d in drafts],
        "uuids": [s.uuid for s in stored],
        "htmls": [s.body_html for s in stored],
        "texts": [s.body_text for s in stored],
        "headers": [json.dumps(list(s.headers)) for s in stored],
        "attachments": [json.dumps(list(s.attachments)) for s in stored],
        "from_addresses": [s.from_address for s in stored],
        "from_names": [s.from_name for s in stored],
        "subjects": [s.subject for s in stored],
        "dates": [s.message_date for s in stored],
        "priorities": [int(d.priority) for d in drafts],
    }
    rows = [
        (draft, recipient, recipient_id, position)
        for draft in drafts
        for position, (recipient, recipient_id) in enumerate(zip(draft.recipients, draft.recipient_ids, strict=True))
    ]
    columns |= {
        "r_ids": [recipient_id for _, _, recipient_id, _ in rows],
        "r_sends": [draft.send_id for draft, _, _, _ in rows],
        "r_positions": [position for _, _, _, position in rows],
        "r_types": [recipient.type.value for _, recipient, _, _ in rows],
        "r_addresses": [recipient.address for _, recipient, _, _ in rows],
        "r_names": [recipient.name for _, recipient, _, _ in rows],
        "r_statuses": [draft.status(recipient).value for draft, recipient, _, _ in rows],
    }
    live = [row for row in rows if row[0].status(row[1]) is RecipientStatus.QUEUED]
    due = {draft.send_id: max(now, draft.request.send_after or now) for draft in drafts}
    return columns | {
        "w_ids": [recipient_id for _, _, recipient_id, _ in live],
        "w_sends": [draft.send_id for draft, _, _, _ in live],
        "w_domains": [recipient.address.rpartition("@")[2] for _, recipient, _, _ in live],
        "w_sizes": [draft.size_bytes for draft, _, _, _ in live],
        "w_phases": [int(Phase.DUE if due[draft.send_id] <= now else Phase.LATER) for draft, _, _, _ in live],
        "w_dues": [due[draft.send_id] for draft, _, _, _ in live],
        "w_priorities": [int(draft.priority) for draft, _, _, _ in live],
    }
