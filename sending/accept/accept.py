"""accept(): the one door through which mail enters, whoever brings it.

In: a project and a SendRequest whose shape a surface has checked. Out: ids, durable. Rules, ids and sizes come first,
outside any transaction; then one transaction writes send, recipients, content, waiting rows, events and the idempotency
record; after its commit one wake-up. A success means committed (synchronous_commit on).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from projects.events import NewEvent, emit_many
from projects.models import Domain, Project
from queues.choose import queue_for
from relay_project import jobs
from relay_project.mail.address import parse_mailbox
from relay_project.mail.headers import HeaderInjection
from relay_project.metrics import Counter
from sending.accept import idempotency, rules, store
from sending.accept.request import Accepted, Refused, RequestedRecipient, SendRequest
from sending.accept.store import Draft
from sending.content import compose_stored
from sending.models import Priority, RecipientStatus
from sending.suppress import suppressed_among

ACCEPTED = Counter("relay_sends_accepted_total", "Sends accepted.", ["queue_name"])
REFUSED = Counter("relay_sends_refused_total", "Sends refused by a rule.")


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
    outcomes: dict[int, Accepted | Refused] = {}
    checked: dict[int, _Checked] = {}
    known: dict[str, Domain | None] = {}
    for position, request in enumerate(requests):
        try:
            rules.check_key(request)
            replay = idempotency.find(project.pk, request)
            if replay is not None:
                outcomes[position] = replay
            else:
                rules.check_schedule(request, now)
                checked[position] = _check(project, request, known)
        except Refused as refusal:
            outcomes[position] = refusal
    drafts = _drafts(checked, outcomes, now)
    outcomes |= _write(project, drafts, now)
    REFUSED.inc(sum(isinstance(outcome, Refused) for outcome in outcomes.values()))
    return [outcomes[position] for position in range(len(requests))]


def _check(project: Project, request: SendRequest, known: dict[str, Domain | None]) -> _Checked:
    rules.check_texts(request)
    domain = rules.check_sender(project, request, known)
    return _Checked(request, domain, rules.check_recipients(request), rules.check_priority(project, request))


def _drafts(checked: dict[int, _Checked], outcomes: dict[int, Accepted | Refused], now: datetime) -> dict[int, Draft]:
    """Draw the batch's ids and compose each message once, for its exact size."""
    if not checked:
        return {}
    with connection.cursor() as cursor:
        ids = iter(store.draw_ids(cursor, sum(item.id_count for item in checked.values())))
    drafts = {}
    for position, item in checked.items():
        try:
            drafts[position] = _draft(item, ids, now)
        except Refused as refusal:
            outcomes[position] = refusal
    return drafts


def _draft(item: _Checked, ids: Iterator[int], now: datetime) -> Draft:
    content_id, send_id, *recipient_ids = (next(ids) for _ in range(item.id_count))
    from_address = parse_mailbox(item.request.from_.address).address
    stored = store.stored_form(item.request, item.recipients, from_address, send_id, now)
    try:
        size = rules.check_size(len(compose_stored(stored)))
    except HeaderInjection as error:
        raise Refused(str(error), status=422, field="headers") from None
    return Draft(
        item.request, item.domain, item.recipients, send_id, content_id, recipient_ids, stored, size, item.priority
    )


def _write(project: Project, drafts: dict[int, Draft], now: datetime) -> dict[int, Accepted | Refused]:
    """The one transaction."""
    outcomes: dict[int, Accepted | Refused] = {}
    if not drafts:
        return outcomes
    queue = queue_for(project)
    with transaction.atomic(), connection.cursor() as cursor:
        fresh, twins = _begin(cursor, project, drafts, outcomes)
        if not fresh:
            return outcomes
        rows = _suppress(cursor, project, list(fresh.values()))
        due = store.insert(cursor, project.pk, queue, rows, now)
        emit_many(cursor, [event for draft in rows for event in _suppressed_events(project, draft)])
        for position, draft in zip(fresh, rows, strict=True):
            answer = Accepted(draft.send_id, draft.stored.message_id, suppressed=tuple(sorted(draft.suppressed)))
            idempotency.settle(cursor, project.pk, draft.request, answer)
            outcomes[position] = answer
        outcomes |= {position: _replay(project, draft) for position, draft in twins.items()}
        if due:
            jobs.wake_on_commit(jobs.DRAIN, jobs.drain_queue(queue.pk))
    ACCEPTED.labels(queue.name).inc(len(fresh))
    return outcomes


def _begin(
    cursor: CursorWrapper, project: Project, drafts: dict[int, Draft], outcomes: dict[int, Accepted | Refused]
) -> tuple[dict[int, Draft], dict[int, Draft]]:
    """Claim the keys: what is to be sent, and what repeats a key of the same batch. What was sent before is answered.

    In order of the keys, so that two batches with the same ones wait for each other instead of crossing.
    """
    fresh: dict[int, Draft] = {}
    twins: dict[int, Draft] = {}
    begun: set[str] = set()
    for position, draft in sorted(drafts.items(), key=lambda item: item[1].request.idempotency_key or ""):
        key = draft.request.idempotency_key
        if key in begun:
            twins[position] = draft
            continue
        try:
            replay = idempotency.begin(cursor, project.pk, draft.request)
        except Refused as refusal:
            outcomes[position] = refusal
            continue
        if replay is not None:
            outcomes[position] = replay
            continue
        fresh[position] = draft
        if key is not None:
            begun.add(key)
    return fresh, twins


def _replay(project: Project, draft: Draft) -> Accepted | Refused:
    """What the first message of the batch with the same key got."""
    try:
        return idempotency.find(project.pk, draft.request) or Refused("This idempotency key is in use.", status=409)
    except Refused as refusal:
        return refusal


def _suppress(cursor: CursorWrapper, project: Project, drafts: Sequence[Draft]) -> list[Draft]:
    addresses = {recipient.address for draft in drafts for recipient in draft.recipients}
    suppressed = suppressed_among(cursor, project.pk, addresses)
    if not suppressed:
        return list(drafts)
    return [
        replace(draft, suppressed=frozenset(suppressed & {r.address for r in draft.recipients})) for draft in drafts
    ]


def _suppressed_events(project: Project, draft: Draft) -> list[NewEvent]:
    return [
        NewEvent(
            project_id=project.pk,
            kind="send.recipient.suppressed",
            subject_kind="send",
            subject_id=draft.send_id,
            payload={"recipient_id": recipient_id, "address": recipient.address, "status": RecipientStatus.SUPPRESSED},
        )
        for recipient, recipient_id in zip(draft.recipients, draft.recipient_ids, strict=True)
        if recipient.address in draft.suppressed
    ]
