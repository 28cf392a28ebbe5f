"""Writing what passed the rules: messages of one project or of several, in one transaction, each with its own outcome.

In: candidates. Out: for each an Accepted that is durable, or a Refused. Ids and suppressions are read first, outside any
transaction, and each message is composed once for its exact size. Nothing raises after the commit.
"""

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import NewEvent, emit_many
from projects.limits import message_bytes
from projects.models import Domain, Project
from queues.choose import queue_for
from relay_project import jobs
from relay_project.db.bound import bound_cursor
from relay_project.mail.address import parse_mailbox
from relay_project.mail.headers import HeaderInjection
from relay_project.mail.placeholders import PlaceholderError
from relay_project.mail.unsubscribe import Subscription
from relay_project.metrics import Counter
from sending.accept import idempotency, rules, store
from sending.accept.idempotency import InFlight, Key, Record
from sending.accept.request import Accepted, Refused, RequestedRecipient, SendRequest
from sending.accept.store import Draft
from sending.content import composed_size
from sending.labels import labels
from sending.models import Priority, RecipientStatus
from sending.suppress import Standing
from sending.unsubscribe import header_value

ACCEPTED = Counter("relay_sends_accepted_total", "Sends accepted.", ["queue_name"])

Outcome = Accepted | Refused
Outcomes = dict[int, Outcome]  # by a message's place in its batch
Contents = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that passed the rules."""

    project: Project
    request: SendRequest
    domain: Domain
    recipients: list[RequestedRecipient]
    priority: Priority
    now: datetime

    @property
    def id_count(self) -> int:
        """How many new ids its rows need: content, send, recipients."""
        return 2 + len(self.recipients)

    @property
    def key(self) -> Key | None:
        """Its idempotency key, which belongs to its project."""
        key = self.request.idempotency_key
        return None if key is None else (self.project.pk, key)


def admit(candidates: Sequence[Candidate], octets: int | None = None) -> list[Outcome]:
    """Accept them, in the order given; one whose key another transaction holds just now is InFlight.

    Once they have so many `octets` together, the others are refused: composing is work.
    """
    outcomes: Outcomes = {}
    drafts = _drafts(candidates, outcomes, octets)
    if drafts:
        _write(drafts, outcomes)
    return [outcomes[place] for place in range(len(candidates))]


def _drafts(candidates: Sequence[Candidate], outcomes: Outcomes, octets: int | None) -> dict[int, Draft]:
    """Draw the ids and compose each message once, for its exact size."""
    left = octets
    by_project: dict[int, list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        by_project[candidate.project.pk].append(place)
    drafts: dict[int, Draft] = {}
    contents: Contents = {}
    with bound_cursor(prepared=True) as cursor:
        for project_id, places in by_project.items():
            members = [candidates[place] for place in places]
            addresses = {recipient.address for member in members for recipient in member.recipients}
            lists = {member.request.list for member in members if member.request.list is not None}
            drawn, standing = store.prepare(cursor, project_id, sum(m.id_count for m in members), addresses, lists)
            ids = iter(drawn)
            for place, member in zip(places, members, strict=True):
                try:
                    drafts[place] = draft = _draft(member, ids, standing, contents, left)
                except Refused as refusal:
                    outcomes[place] = refusal
                else:
                    left = None if left is None else left - draft.size_bytes
    return drafts


def _draft(item: Candidate, ids: Iterator[int], standing: Standing, contents: Contents, left: int | None) -> Draft:
    """`contents` has the ids of those that several share, by project and number; `left` is what remains of the octets."""
    if left is not None and left <= 0:
        raise Refused("The messages before this one are as much as one call may bring. Send it in another.", status=413)
    content_id, send_id, *recipient_ids = (next(ids) for _ in range(item.id_count))
    if item.request.shares is not None:
        content_id = contents.setdefault((item.project.pk, item.request.shares), content_id)
    from_address = parse_mailbox(item.request.from_.address).address
    link = _link(item, from_address, send_id, recipient_ids[0])
    stored = store.stored_form(item.request, item.recipients, from_address, send_id, item.now, link)
    try:
        size = composed_size(stored)
        if item.request.forwarded_from is None:  # what was received within the limit has grown since by our own fields
            rules.check_size(size, message_bytes(item.project))
    except HeaderInjection as error:
        raise Refused(str(error), status=422, field="headers") from None
    except PlaceholderError as error:
        raise Refused(str(error), status=422, field=error.field) from None
    return Draft(
        item.project.pk,
        queue_for(item.project),
        item.request,
        item.domain,
        item.recipients,
        send_id,
        content_id,
        recipient_ids,
        stored,
        size,
        item.now,
        item.key,
        item.priority,
        frozenset([r.address for r in item.recipients if standing.suppresses(r.address, item.request.list)]),
    )


def _link(item: Candidate, from_address: str, send_id: int, recipient_id: int) -> str | None:
    """List-Unsubscribe of a mail that asks for it."""
    wish, project_id = item.request.list_unsubscribe, item.domain.project_id
    if wish is None:
        return None
    address, from_domain = item.recipients[0].address, from_address.rpartition("@")[2]
    subscription = Subscription(project_id, send_id, recipient_id, address, from_domain, item.request.list)
    try:
        return header_value(wish, subscription)
    except ValueError:
        raise Refused("The unsubscribe link is too long for a mail.", status=422, field="list_unsubscribe") from None


def _write(drafts: dict[int, Draft], outcomes: Outcomes) -> None:
    """The one transaction."""
    with _transaction(list(drafts.values())), bound_cursor(prepared=True) as cursor:
        fresh = _begin(cursor, drafts, outcomes)
        due = store.insert(cursor, fresh)
        emit_many(cursor, [event for draft in fresh for event in _suppressed_events(draft)])
        for queue_id in due:
            jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(queue_id))
    for queue_name, count in Tally(draft.queue.name for draft in fresh).items():
        ACCEPTED.labels(queue_name).inc(count)


def _transaction(drafts: Sequence[Draft]) -> AbstractContextManager[object]:
    """None for what is a single statement, and so a transaction by itself: BEGIN and COMMIT are two round trips more."""
    has_more = any(draft.key is not None or draft.suppressed for draft in drafts)
    is_single = not has_more and len(store.statements(drafts)) == 1 and connection.get_autocommit()
    return nullcontext() if is_single else transaction.atomic()


def _begin(cursor: CursorWrapper, drafts: dict[int, Draft], outcomes: Outcomes) -> list[Draft]:
    """Claim the keys: returns what is to be sent; what was sent before, or repeats a key of this batch, is answered."""
    first: dict[Key, Draft] = {}
    for draft in drafts.values():
        if draft.key is not None:
            first.setdefault(draft.key, draft)
    used = idempotency.begin(cursor, {key: Record.of(draft.request, draft.accepted) for key, draft in first.items()})
    fresh = []
    for place, draft in drafts.items():
        if draft.key is None or (first[draft.key] is draft and draft.key not in used):
            outcomes[place] = draft.accepted
            fresh.append(draft)
        else:
            record = used.get(draft.key) or Record.of(first[draft.key].request, first[draft.key].accepted)
            outcomes[place] = record if isinstance(record, InFlight) else record.answer_to(draft.request)
    return fresh


def _suppressed_events(draft: Draft) -> list[NewEvent]:
    if not draft.suppressed:
        return []
    asked = draft.request
    known = labels(asked.tags, asked.metadata, asked.is_test)
    return [
        NewEvent(
            project_id=draft.project_id,
            kind="send.recipient.suppressed",
            subject_kind="send",
            subject_id=draft.send_id,
            payload={
                "recipient_id": recipient_id,
                "address": recipient.address,
                "status": RecipientStatus.SUPPRESSED,
                **known,
            },
        )
        for recipient, recipient_id in zip(draft.recipients, draft.recipient_ids, strict=True)
        if recipient.address in draft.suppressed
    ]
