"""Pausing a queue: nothing of it is claimed while it is paused; what is in flight ends as it will."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User
from queues.models import Pause, Queue
from relay_project.mail.text import clean

Span = tuple[datetime, datetime | None]  # from, until (None: still)

MAX_REASON = 255  # characters, the width of Queue.pause_reason


def pause(
    queue: Queue, *, reason: str, actor: User | None, now: datetime, address: str | None = None, actor_label: str = ""
) -> bool:
    """Stop claiming from a queue; False when it was paused already, whose reason then stays."""
    reason = clean(reason, MAX_REASON).strip()
    with transaction.atomic():
        paused = Queue.objects.filter(pk=queue.pk, paused_at=None).update(paused_at=now, pause_reason=reason)
        if paused:
            Pause.objects.filter(queue=queue, ended_at=None).update(ended_at=now)  # left open by an older version
            Pause.objects.create(queue=queue, reason=reason, began_at=now)
            detail = {"reason": reason}
            audit.record(
                "queue.paused", actor=actor, subject=queue, address=address, detail=detail, actor_label=actor_label
            )
    queue.refresh_from_db()
    return bool(paused)


def resume(
    queue: Queue, *, actor: User | None, now: datetime, address: str | None = None, actor_label: str = ""
) -> bool:
    """Claim from a queue again; False when it was not paused. Its mail is due at once; the engine's pace limits it."""
    with transaction.atomic():
        resumed = Queue.objects.filter(pk=queue.pk, paused_at__isnull=False).update(paused_at=None, pause_reason="")
        if resumed:
            Pause.objects.filter(queue=queue, ended_at=None).update(ended_at=now)
            audit.record("queue.resumed", actor=actor, subject=queue, address=address, actor_label=actor_label)
    queue.refresh_from_db()
    return bool(resumed)


def pauses_since(moment: datetime) -> dict[int, list[Span]]:
    """The pauses that reach past a moment, open ones included, by queue."""
    found: dict[int, list[Span]] = defaultdict(list)
    for pause in Pause.objects.filter(Q(ended_at=None) | Q(ended_at__gt=moment)).order_by("began_at"):
        found[pause.queue_id].append((pause.began_at, pause.ended_at))
    return found


def paused_for(pauses: Iterable[Span], began_at: datetime, now: datetime) -> timedelta:
    """How much of the time since `began_at` was pause; where pauses overlap, both count."""
    spans = ((end or now) - max(begin, began_at) for begin, end in pauses)
    return sum((span for span in spans if span > timedelta()), timedelta())
