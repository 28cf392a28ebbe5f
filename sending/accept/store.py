"""Writing what was accepted: ids and suppressions read first, then one statement for all rows of all messages."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db.backends.utils import CursorWrapper

from projects.events import EventKind, emitting
from projects.models import Domain
from queues.models import Queue
from relay_project.db.ids import uuid_of
from relay_project.mail.mime import LATEST_VERSION
from relay_project.mail.placeholders import PlaceholderError, fill
from sending.accept import rules
from sending.accept.idempotency import Key
from sending.accept.request import Accepted, Refused, RequestedRecipient, SendRequest
from sending.content import StoredMessage
from sending.labels import labels
from sending.models import TEST_LANE, Phase, Priority, RecipientStatus
from sending.suppress import Standing, lookup, lookup_values

MAX_STATEMENT = 8 * 1024 * 1024  # octets of the messages that one statement writes


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that passed the rules, with the ids it will have."""

    project_id: int
    queue: Queue
    request: SendRequest
    domain: Domain
    recipients: list[RequestedRecipient]
    send_id: int
    content_id: int
    recipient_ids: list[int]
    stored: StoredMessage
    size_bytes: int
    now: datetime
    key: Key | None
    priority: Priority
    suppressed: frozenset[str]

    @property
    def accepted(self) -> Accepted:
        """What the commit makes true."""
        return Accepted(self.send_id, self.stored.message_id, suppressed=tuple(sorted(self.suppressed)))

    def status(self, recipient: RequestedRecipient) -> RecipientStatus:
        """Suppressed recipients are final at once."""
        return RecipientStatus.SUPPRESSED if recipient.address in self.suppressed else RecipientStatus.QUEUED


def prepare(
    cursor: CursorWrapper, project_id: int, count: int, addresses: Collection[str], lists: Collection[str]
) -> tuple[list[int], Standing]:
    """What is needed before writing, in one round trip: new ids, ascending, and which of the addresses are suppressed.

    An address that is suppressed after this and before the commit is found by the senders (lesson C8).
    """
    cursor.execute(
        f"""SELECT ARRAY(SELECT new_id() FROM generate_series(1, %(count)s)),
                   ARRAY(SELECT email FROM ({lookup(lists)}) found)""",  # noqa: S608 — a constant
        {"count": count, **lookup_values(project_id, addresses, lists)},
    )
    ids, suppressed = cursor.fetchone()
    return sorted(ids), Standing(frozenset(suppressed))


def mailer() -> str:
    """The X-Mailer line."""
    return f"{settings.PRODUCT_NAME} v{settings.VERSION}"


def stored_form(
    request: SendRequest,
    recipients: Sequence[RequestedRecipient],
    from_address: str,
    send_id: int,
    now: datetime,
    list_unsubscribe: str | None = None,
) -> StoredMessage:
    """What the bytes of this send will be made of. Only the subject, which is its own, is filled in already."""
    date = max(now, request.send_after or now).replace(microsecond=0)
    return StoredMessage(
        uuid=uuid_of(send_id),
        from_address=from_address,
        from_name=request.from_.name or None,
        subject=_subject(request),
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
        list_unsubscribe=list_unsubscribe,
        raw=None if request.raw is None else request.raw.octets,
        raw_message_id=None if request.raw is None else request.raw.message_id,
        variables=request.variables,
        is_forwarded=request.forwarded_from is not None,
    )


def _subject(request: SendRequest) -> str | None:
    if request.variables is None:
        return request.subject
    try:
        subject = fill(request.subject, request.variables, rules.MAX_LINE)
    except PlaceholderError as error:
        raise Refused(str(error), status=422, field="subject") from None
    rules.check_line("subject", subject, rules.MAX_LINE)
    return subject


# One JSON parameter for each kind of row: as arrays, psycopg quotes element by element in Python, 45 µs a mail against 8.
# `json`, not `jsonb`: the texts are read once, and a batch may be larger than the 256 MB of a jsonb.
_WRITE = """
WITH part AS MATERIALIZED (
  SELECT * FROM ROWS FROM (
    json_to_recordset(%(parts)s::json)
      AS (id bigint, project bigint, html text, text text, headers jsonb, attachments jsonb),
    unnest(%(raws)s::bytea[])) AS c(id, project, html, text, headers, attachments, raw)
), message AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(messages)s::json)
    AS m(id bigint, uuid uuid, project bigint, queue bigint, content bigint, domain bigint, from_address text,
         from_name text, subject text, size int, date timestamptz, priority smallint, list text,
         list_unsubscribe text, tags text[], metadata jsonb, is_test bool, variables jsonb, forwarded_from text,
         told jsonb)
), person AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(people)s::json)
    AS p(id bigint, send bigint, project bigint, queue bigint, position smallint, type text, address text, name text,
         status text, domain text, size int, phase smallint, due timestamptz, priority smallint, lane bigint)
), content AS (
  INSERT INTO sending_content (id, project_id, body_html, body_text, headers, attachments, attachment_bodies, raw)
  SELECT id, project, html, text, headers, attachments, %(bodies)s::bytea[], raw FROM part
), send AS (
  INSERT INTO sending_send (id, uuid, project_id, queue_id, domain_id, content_id, from_address, from_name, subject,
                            size_bytes, message_date, writer_version, mailer, instance_domain, priority, list,
                            list_unsubscribe, tags, metadata, is_test, variables, forwarded_from)
  SELECT id, uuid, project, queue, domain, content, from_address, from_name, subject, size, date, %(writer)s,
         %(mailer)s, %(instance)s, priority, list, list_unsubscribe, tags, metadata, is_test, variables, forwarded_from
    FROM message
), {events}{tags}, recipient AS (
  INSERT INTO sending_recipient (id, send_id, project_id, position, type, address, name, status, try_count)
  SELECT id, send, project, position, type, address, name, status, 0 FROM person
)
INSERT INTO sending_waiting (recipient_id, send_id, project_id, queue_id, lane, priority, domain, size_bytes, phase,
                             due_at, tries, lost, since)
SELECT id, send, project, queue, lane, priority, domain, size, phase, due, 0, 0, CASE WHEN phase = 1 THEN due END
  FROM person WHERE due IS NOT NULL
"""
_TAGS = """, tag AS (
  INSERT INTO sending_sendtag (project_id, tag, send_id) SELECT project, unnest(tags), id FROM message
)"""
# send.queued: a statement of its own for it would be a round trip, and a transaction, more.
_QUEUED = f"""(SELECT project AS project_id, '{EventKind.QUEUED}' AS kind, 'send' AS subject_kind, id AS subject_id,
                told AS payload FROM message WHERE told IS NOT NULL) AS queued"""  # noqa: S608 — constants
_INSERT, _INSERT_TAGGED = (_WRITE.format(tags=tags, events=emitting(_QUEUED)) for tags in ("", _TAGS))


def insert(cursor: CursorWrapper, drafts: Sequence[Draft]) -> set[int]:
    """Write the drafts in the caller's transaction; returns the queues in which something is due now."""
    due: set[int] = set()
    written: set[int] = set()
    for group in statements(drafts):
        people = [row for draft in group for row in _people(draft)]
        parts = {draft.content_id: draft for draft in group if draft.content_id not in written}
        written |= parts.keys()
        values: dict[str, Any] = {
            "parts": orjson.dumps([_part(draft) for draft in parts.values()]).decode(),
            "messages": orjson.dumps([_message(draft) for draft in group]).decode(),
            "people": orjson.dumps(people).decode(),
            "bodies": [bytes(body) for draft in parts.values() for body in draft.stored.attachment_bodies],
            "raws": [draft.stored.raw for draft in parts.values()],
            "writer": LATEST_VERSION,
            "mailer": mailer(),
            "instance": settings.INSTANCE_DOMAIN,
        }
        is_tagged = any(draft.request.tags for draft in group)
        cursor.execute(_INSERT_TAGGED if is_tagged else _INSERT, values)
        due |= {row["queue"] for row in people if row["due"] is not None and row["phase"] == Phase.DUE}
    return due


def statements(drafts: Sequence[Draft]) -> list[Sequence[Draft]]:
    """The drafts as one statement each may write them.

    Each content with files has one of its own, as SQL has no ragged arrays; and none is larger than MAX_STATEMENT, or
    whole batches would lie in memory several times over.
    """
    groups: dict[int, list[Draft]] = {}
    plain, octets = 0, 0
    for draft in drafts:
        if draft.stored.attachment_bodies:
            groups.setdefault(draft.content_id, []).append(draft)
            continue
        octets += draft.size_bytes
        if octets > MAX_STATEMENT:
            plain, octets = plain - 1, draft.size_bytes
        groups.setdefault(plain, []).append(draft)
    return list(groups.values())


def _part(draft: Draft) -> dict[str, Any]:
    """A content, which others may share."""
    stored = draft.stored
    return {
        "id": draft.content_id,
        "project": draft.project_id,
        "html": stored.body_html,
        "text": stored.body_text,
        "headers": stored.headers,
        "attachments": stored.attachments,
    }


def _message(draft: Draft) -> dict[str, Any]:
    stored = draft.stored
    return {
        "id": draft.send_id,
        "uuid": stored.uuid,
        "project": draft.project_id,
        "queue": draft.queue.pk,
        "content": draft.content_id,
        "domain": draft.domain.pk,
        "from_address": stored.from_address,
        "from_name": stored.from_name,
        "subject": stored.subject,
        "size": draft.size_bytes,
        "date": stored.message_date,
        "priority": draft.priority,
        "list": draft.request.list,
        "list_unsubscribe": stored.list_unsubscribe,
        "tags": draft.request.tags or None,
        "metadata": draft.request.metadata or None,
        "is_test": draft.request.is_test,
        "variables": stored.variables,
        "forwarded_from": draft.request.forwarded_from,
        "told": _told(draft),
    }


def _told(draft: Draft) -> dict[str, Any] | None:
    """What send.queued says; None where nobody is left to send to."""
    asked = draft.request
    if draft.suppressed and all(recipient.address in draft.suppressed for recipient in draft.recipients):
        return None
    due = max(draft.now, asked.send_after or draft.now)
    return {"send_after": int(due.timestamp()), **labels(asked.tags, asked.metadata, asked.is_test)}


def _people(draft: Draft) -> Iterator[dict[str, Any]]:
    """A row for each recipient; who is suppressed has no due time, and does not wait."""
    due = max(draft.now, draft.request.send_after or draft.now)
    phase = int(Phase.DUE if due <= draft.now else Phase.LATER)
    lane = TEST_LANE if draft.request.is_test else draft.queue.pk
    for position, (recipient, recipient_id) in enumerate(zip(draft.recipients, draft.recipient_ids, strict=True)):
        status = draft.status(recipient)
        yield {
            "id": recipient_id,
            "send": draft.send_id,
            "project": draft.project_id,
            "queue": draft.queue.pk,
            "position": position,
            "type": recipient.type.value,
            "address": recipient.address,
            "name": recipient.name,
            "status": status.value,
            "domain": recipient.address.rpartition("@")[2],
            "size": draft.size_bytes,
            "phase": phase,
            "priority": draft.priority,
            "lane": lane,
            "due": due if status is RecipientStatus.QUEUED else None,
        }
