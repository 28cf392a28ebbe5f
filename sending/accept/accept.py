"""accept(): the one door through which mail enters, whoever brings it.

In: a project and a SendRequest whose shape a surface has checked. Out: ids, durable. The rules come first, outside any
transaction; then one transaction (sending.accept.admit) writes send, recipients, content, waiting rows, events and the
idempotency record; after its commit one wake-up. A success means committed (synchronous_commit on).

Single messages of a process's threads share transactions: whoever comes while one is being written joins the next.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from django.db import connection, transaction

from projects.limits import recipients_per_send
from projects.models import Domain, Project
from relay_project.db.gather import Gather
from relay_project.metrics import Counter
from sending.accept import idempotency, rules
from sending.accept.admit import Candidate, Outcome, Outcomes, admit
from sending.accept.idempotency import InFlight
from sending.accept.request import Accepted, Refused, SendRequest

REFUSED = Counter("relay_sends_refused_total", "Sends refused by a rule.")

TOGETHER = 50  # messages of one transaction; beyond that it only makes the first of them wait
IN_FLIGHT_SECONDS = 3.0  # how long a call waits for another one with its key
LOOK_AGAIN_SECONDS = 0.02
MAX_BATCH_OCTETS = 256 * 1024 * 1024  # composed messages of a call, without their files: some seconds of a core

Asked = tuple[Project, SendRequest]

_gather: Gather[Candidate, Outcome] = Gather(admit, TOGETHER)


def accept(project: Project, request: SendRequest, now: datetime) -> Accepted:
    """Accept one message durably; raises Refused. Call it outside any transaction, or success is not yet durable."""
    outcome = _accept_each([(project, request)], now, _together)[0]
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def accept_many(project: Project, requests: Sequence[SendRequest], now: datetime) -> list[Outcome]:
    """Accept a batch in one transaction: each message has its own outcome, in the order given."""
    return _accept_each([(project, request) for request in requests], now, admit)


def accept_together(asked: Sequence[Asked], now: datetime) -> list[Outcome]:
    """Accept messages of several projects in one transaction, each with its own outcome, in the order given.

    Nobody waits: one whose key is in flight elsewhere is InFlight.
    """
    return _accept_each(asked, now, admit, patience=0.0)


def accept_forward(project: Project, domain: Domain, request: SendRequest, now: datetime) -> Accepted:
    """Accept a mail that came in for `domain`'s owner and is passed on; raises Refused.

    Its From is somebody else's, so the rules about that do not hold; all else is as for a mail of the project's own.
    """
    rules.check_project(project)
    rules.check_texts(request)
    recipients = rules.check_recipients(request, len(request.recipients))
    candidate = Candidate(project, request, domain, recipients, rules.check_priority(project, request), now)
    outcome = _admitted({0: candidate}, _together, 0.0)[0]
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def accept_batch(
    project: Project, requests: Sequence[SendRequest], now: datetime, whole: idempotency.Whole | None = None
) -> list[Outcome] | idempotency.Replay:
    """accept_many(), of a call that may have a key of its own: what it got before is answered again, as a whole.

    Raises Refused for a key of another body, or one that is in flight for longer than IN_FLIGHT_SECONDS.
    """
    work = partial(admit, octets=MAX_BATCH_OCTETS)
    asked = [(project, request) for request in requests]
    if whole is None:
        return _accept_each(asked, now, work)
    give_up = time.monotonic() + IN_FLIGHT_SECONDS
    while True:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                used = whole.hold(cursor)
                if used is not None:
                    return used
                outcomes = _accept_each(asked, now, work, patience=0.0)
                if any(isinstance(outcome, Accepted) for outcome in outcomes):
                    whole.record(cursor, outcomes)
                return outcomes
        except InFlight:
            if time.monotonic() > give_up:
                raise
        time.sleep(LOOK_AGAIN_SECONDS)


def check(project: Project, request: SendRequest, now: datetime) -> None:
    """The rules alone, in their order, for who has a reason of their own to refuse after them; raises Refused."""
    _candidate(project, request, {}, now)


def _accept_each(
    asked: Sequence[Asked],
    now: datetime,
    work: Callable[[Sequence[Candidate]], Sequence[Outcome]],
    patience: float = IN_FLIGHT_SECONDS,
) -> list[Outcome]:
    outcomes: Outcomes = {}
    candidates: dict[int, Candidate] = {}
    known: dict[int, dict[str, Domain | None]] = defaultdict(dict)  # by project
    for place, (project, request) in enumerate(asked):
        try:
            candidates[place] = _candidate(project, request, known[project.pk], now)
        except Refused as refusal:
            outcomes[place] = refusal
    outcomes |= _replays({place: asked[place] for place in outcomes})
    outcomes |= _admitted(candidates, work, patience)
    REFUSED.inc(sum(isinstance(outcome, Refused) for outcome in outcomes.values()))
    return [outcomes[place] for place in range(len(asked))]


def _candidate(project: Project, request: SendRequest, known: dict[str, Domain | None], now: datetime) -> Candidate:
    """The rules, in the contract's order."""
    rules.check_project(project)
    rules.check_key(request)
    rules.check_schedule(request, now)
    rules.check_texts(request)
    domain = rules.check_sender(project, request, known)
    recipients = rules.check_recipients(request, recipients_per_send(project))
    rules.check_list_unsubscribe(request, recipients)
    return Candidate(project, request, domain, recipients, rules.check_priority(project, request), now)


def _replays(refused: dict[int, Asked]) -> Outcomes:
    """What the key of a refused message got an answer for before: that holds whatever the rules say now."""
    keys: dict[int, set[str]] = defaultdict(set)
    for project, request in refused.values():
        if (key := request.idempotency_key) and rules.is_key(key):
            keys[project.pk].add(key)
    used = {
        (project_id, key): record
        for project_id in keys
        for key, record in idempotency.find(project_id, keys[project_id]).items()
    }
    return {
        place: record.answer_to(request)
        for place, (project, request) in refused.items()
        if (record := used.get((project.pk, request.idempotency_key or "")))
    }


def _admitted(
    candidates: dict[int, Candidate], work: Callable[[Sequence[Candidate]], Sequence[Outcome]], patience: float
) -> Outcomes:
    """Write them; one whose key is in flight elsewhere waits for that call's end, and not for long."""
    outcomes: Outcomes = {}
    give_up = time.monotonic() + patience
    while candidates:
        outcomes |= zip(candidates, work(list(candidates.values())), strict=True)
        candidates = {place: one for place, one in candidates.items() if isinstance(outcomes[place], InFlight)}
        if not candidates or time.monotonic() >= give_up:
            break
        time.sleep(LOOK_AGAIN_SECONDS)
    return outcomes


def _together(candidates: Sequence[Candidate]) -> list[Outcome]:
    """In the transaction of whoever comes at the same time; inside the caller's own transaction, if there is one."""
    if connection.in_atomic_block:
        return admit(candidates)
    return [_gather.do(candidate) for candidate in candidates]
