"""Pausing a queue: nothing of it is claimed while it is paused; what is in flight ends as it will."""

from datetime import datetime

from django.db import transaction

from accounts import audit
from accounts.models import User
from queues.models import Queue
from relay_project.mail.text import clean

MAX_REASON = 255  # characters, the width of Queue.pause_reason


def pause(queue: Queue, *, reason: str, actor: User | None, now: datetime, address: str | None = None) -> bool:
    """Stop claiming from a queue; False when it was paused already, whose reason then stays."""
    reason = clean(reason, MAX_REASON).strip()
    with transaction.atomic():
        paused = Queue.objects.filter(pk=queue.pk, paused_at=None).update(paused_at=now, pause_reason=reason)
        if paused:
            audit.record("queue.paused", actor=actor, subject=queue, address=address, detail={"reason": reason})
    queue.refresh_from_db()
    return bool(paused)


def resume(queue: Queue, *, actor: User | None, address: str | None = None) -> bool:
    """Claim from a queue again; False when it was not paused. Its mail is due at once; the engine's pace limits it."""
    with transaction.atomic():
        resumed = Queue.objects.filter(pk=queue.pk, paused_at__isnull=False).update(paused_at=None, pause_reason="")
        if resumed:
            audit.record("queue.resumed", actor=actor, subject=queue, address=address)
    queue.refresh_from_db()
    return bool(resumed)
