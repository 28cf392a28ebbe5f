"""Removing a queue that staff made, once nothing is in it and nobody uses it."""

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.models import User
from ips.models import SourceIp
from queues.models import ProjectQueue, Queue
from relay_project.web.errors import ApiError
from sending.models import Waiting

DEFAULT = "The default queues cannot be removed."
HAS_MAIL = "Mail waits in this queue; reroute or purge it first."
HAS_PROJECTS = "Projects use this queue; give them another one first."
HAS_ADDRESSES = "Source IPs carry this queue; move them first."


def remove_queue(queue: Queue, *, actor: User | None, address: str | None = None, actor_label: str = "") -> None:
    """Remove it with its pauses and past orders; raises ApiError 400 while something needs it."""
    if queue.is_default:
        raise ApiError(400, DEFAULT)
    if ProjectQueue.objects.filter(queue=queue).exists():
        raise ApiError(400, HAS_PROJECTS)
    if SourceIp.objects.filter(queue=queue).exists():
        raise ApiError(400, HAS_ADDRESSES)
    try:
        with transaction.atomic():
            # New mail asks which queue a project has; without a project none comes but what was on its way a moment ago.
            if Waiting.objects.filter(queue_id=queue.pk).exists():
                raise ApiError(400, HAS_MAIL)
            audit.record(
                "queue.removed",
                actor=actor,
                subject=queue,
                address=address,
                detail={"name": queue.name},
                actor_label=actor_label,
            )
            queue.delete()
    except IntegrityError:
        raise ApiError(400, HAS_PROJECTS) from None
