"""accept(): the one door through which mail enters, whoever brings it.

In: a project and a SendRequest whose shape a surface has checked. Out: ids, durable. Rules, ids and sizes come first,
outside any transaction; then one transaction writes send, recipients, content, waiting rows, events and the idempotency
record; after its commit one wake-up. A success means committed (synchronous_commit on).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import NewEvent, emit_many
from projects.models import Domain, Project
from queues.choose import queue_for
from relay_project import jobs
from relay_project.db.bound import bound_cursor
from relay_project.mail.address import parse_mailbox
from relay_project.mail.headers import HeaderInjection
from relay_project.mail.unsubscribe import Subscription
from relay_project.metrics import Counter
from sending.accept import idempotency, rules, store
from sending.accept.idempotency import Record
from sending.accept.request import Accepted, Refused, RequestedRecipient, SendRequest
from sending.accept.store import Draft
from sending.content import compose_stored
from sending.labels import labels
from sending.models import Priority, RecipientStatus
from sending.suppress import Standing
from sending.unsubscribe import header_value

ACCEPTED = Counter("relay_sends_accepted_total", "Sends accepted.", ["queue_name"])
REFUSED = Counter("relay_sends_refused_total", "Sends refused by a rule.")

Outcomes = dict[int, Accepted | Refused]  # by a message's place in its batch


@dataclass(frozen=True, slots=True)
class _Checked:
    request: SendRequest
    domain: Domain
    recipients: list[RequestedRecipient]
    priority: Priority

    @property
    def id_count(self) -> int:
        return 2 + len(self.recipients)


def accept(project: Project, request: SendRequest, now: datetime) -> Accepted:
    """Accept one message durably; raises Refused. Call it outside any transaction, or success is not yet durable."""
    [outcome] = accept_many(project, [request], now)
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def check(project: Project, request: SendRequest) -> None:
    """The rules alone, in their order, for who has a reason of their own to refuse after them; raises Refused."""
    _check(project, request, {})


def accept_many(project: Project, requests: Sequence[SendRequest], now: datetime) -> list[Accepted | Refused]:
    """Accept a batch in one transaction: each message has its own outcome, in the order given."""
    outcomes: Outcomes = {}
    checked: dict[int, _Checked] = {}
    used = _used_keys(project, requests, outcomes)
    known: dict[str, Domain | None] = {}
    for position, request in enumerate(requests):
        if position in outcomes:
            continue
        try:
            if request.idempotency_key is not None and request.idempotency_key in used:
                outcomes[position] = used[request.idempotency_key].replay(request)
            else:
                rules.check_schedule(request, now)
                checked[position] = _check(project, request, known)
        except Refused as refusal:
            outcomes[position] = refusal
    drafts = _drafts(project, checked, outcomes, now) if checked else {}
    if drafts:
        _write(project, drafts, outcomes, now)
    REFUSED.inc(sum(isinstance(outcome, Refused) for outcome in outcomes.values()))
    return [outcomes[position] for position in range(len(requests))]


def _used_keys(project: Project, requests: Sequence[SendRequest], outcomes: Outcomes) -> dict[str, Record]:
    """What the batch's idempotency keys got before: that is answered whatever the rules say now."""
    keys = set()
    for position, request in enumerate(requests):
        try:
            rules.check_key(request)
        except Refused as refusal:
            outcomes[position] = refusal
            continue
        if request.idempotency_key is not None:
            keys.add(request.idempotency_key)
    return idempotency.find(project.pk, keys)


def _check(project: Project, request: SendRequest, known: dict[str, Domain | None]) -> _Checked:
    rules.check_texts(request)
    domain = rules.check_sender(project, request, known)
    recipients = rules.check_recipients(request)
    rules.check_list_unsubscribe(request, recipients)
    return _Checked(request, domain, recipients, rules.check_priority(project, request))


def _drafts(project: Project, checked: dict[int, _Checked], outcomes: Outcomes, now: datetime) -> dict[int, Draft]:
    """Draw the batch's ids and compose each message once, for its exact size."""
    addresses = {recipient.address for item in checked.values() for recipient in item.recipients}
    lists = {item.request.list for item in checked.values() if item.request.list is not None}
    with connection.cursor() as cursor:
        count = sum(item.id_count for item in checked.values())
        drawn, standing = store.prepare(cursor, project.pk, count, addresses, lists)
    ids = iter(drawn)
    drafts = {}
    for position, item in checked.items():
        try:
            drafts[position] = _draft(item, ids, standing, now)
        except Refused as refusal:
            outcomes[position] = refusal
    return drafts


def _draft(item: _Checked, ids: Iterator[int], standing: Standing, now: datetime) -> Draft:
    content_id, send_id, *recipient_ids = (next(ids) for _ in range(item.id_count))
    from_address = parse_mailbox(item.request.from_.address).address
    link = _link(item, from_address, send_id, recipient_ids[0])
    stored = store.stored_form(item.request, item.recipients, from_address, send_id, now, link)
    try:
        size = rules.check_size(len(compose_stored(stored)))
    except HeaderInjection as error:
        raise Refused(str(error), status=422, field="headers") from None
    return Draft(
        item.request,
        item.domain,
        item.recipients,
        send_id,
        content_id,
        recipient_ids,
        stored,
        size,
        item.priority,
        frozenset([r.address for r in item.recipients if standing.suppresses(r.address, item.request.list)]),
    )


def _link(item: _Checked, from_address: str, send_id: int, recipient_id: int) -> str | None:
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


def _write(project: Project, drafts: dict[int, Draft], outcomes: Outcomes, now: datetime) -> None:
    """The one transaction."""
    queue = queue_for(project)
    with _transaction(list(drafts.values())), bound_cursor() as cursor:
        fresh = _begin(cursor, project, drafts, outcomes)
        rows = list(fresh.values())
        due = store.insert(cursor, project.pk, queue, rows, now)
        emit_many(cursor, [event for draft in rows for event in _suppressed_events(project, draft)])
        if due:
            jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(queue.pk))
    ACCEPTED.labels(queue.name).inc(len(fresh))


def _transaction(drafts: Sequence[Draft]) -> AbstractContextManager[object]:
    """None for what is a single statement, and so a transaction by itself: BEGIN and COMMIT are two round trips more."""
    has_more = any(draft.request.idempotency_key is not None or draft.suppressed for draft in drafts)
    is_single = not has_more and len(store.statements(drafts)) == 1 and connection.get_autocommit()
    return nullcontext() if is_single else transaction.atomic()


def _begin(cursor: CursorWrapper, project: Project, drafts: dict[int, Draft], outcomes: Outcomes) -> dict[int, Draft]:
    """Claim the keys: returns what is to be sent; what was sent before, or repeats a key of this batch, is answered."""
    first: dict[str, int] = {}
    fresh: dict[int, Draft] = {}
    for position, draft in drafts.items():
        outcomes[position] = draft.accepted
        key = draft.request.idempotency_key
        if key is None or first.setdefault(key, position) == position:
            fresh[position] = draft
    answers = {key: (drafts[position].request, drafts[position].accepted) for key, position in first.items()}
    used = idempotency.begin(cursor, project.pk, answers)
    for position, draft in drafts.items():
        key = draft.request.idempotency_key
        if key is not None and (key in used or position != first[key]):
            fresh.pop(position, None)
            outcomes[position] = _replay(used.get(key) or Record.of(*answers[key]), draft.request)
    return fresh


def _replay(record: Record, request: SendRequest) -> Accepted | Refused:
    try:
        return record.replay(request)
    except Refused as refusal:
        return refusal


def _suppressed_events(project: Project, draft: Draft) -> list[NewEvent]:
    if not draft.suppressed:
        return []
    asked = draft.request
    known = labels(asked.tags, asked.metadata, asked.is_test)
    return [
        NewEvent(
            project_id=project.pk,
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
