"""Queues that staff make beside the two default ones, and the projects whose mail takes them.

A queue of its own gives a project its own source IPs, and so its own reputation.
"""

import re

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.models import User
from projects.models import Project
from queues.models import ProjectQueue, Queue
from relay_project.db.lookup import forget_remembered
from relay_project.web.errors import ApiError, violation

MAX_NAME = 64  # characters, the column's
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
NOT_A_NAME = "A queue's name is made of lower-case letters, digits and hyphens, 64 characters at most."
NO_QUEUE = "Queue with ID '{id}' does not exist."  # the contract's text, with 400
EXISTS = "A queue of this name exists already."


def create_queue(name: str, *, actor: User | None, address: str | None = None, actor_label: str = "") -> Queue:
    """A new queue, without source IPs; raises Violations, ApiError 400."""
    check_name(name)
    try:
        with transaction.atomic():
            queue = Queue.objects.create(name=name)
            audit.record(
                "queue.created",
                actor=actor,
                subject=queue,
                address=address,
                detail={"name": name},
                actor_label=actor_label,
            )
    except IntegrityError:
        raise ApiError(400, EXISTS) from None
    return queue


def find_queue(queue_id: int | None) -> Queue | None:
    """The queue that a body names, None for none; raises ApiError 400."""
    if queue_id is None:
        return None
    queue = Queue.objects.filter(pk=queue_id).first()
    if queue is None:
        raise ApiError(400, NO_QUEUE.format(id=queue_id))
    return queue


def check_name(name: str) -> None:
    """Raises Violations."""
    if not NAME.fullmatch(name):
        raise violation("name", NOT_A_NAME)


def dedicate(
    project: Project, queue: Queue | None, *, actor: User | None, address: str | None = None, actor_label: str = ""
) -> bool:
    """Let a project's mail take a queue from now on, None: the default one of what it sends; False when it did.

    What waits stays where it is; `reroute` moves it.
    """
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        former = ProjectQueue.objects.filter(project=project).select_related("queue").first()
        if (former.queue if former else None) == queue:
            return False
        ProjectQueue.objects.filter(project=project).delete()
        if queue is not None:
            ProjectQueue.objects.create(project=project, queue=queue)
        audit.record(
            "project.queue_changed",
            actor=actor,
            subject=project,
            project_id=project.pk,
            address=address,
            detail={"from": former.queue.name if former else None, "to": queue.name if queue else None},
            actor_label=actor_label,
        )
        transaction.on_commit(forget_remembered)
    return True


def own_queue(project: Project) -> Queue | None:
    """The queue that staff gave a project; None: it takes the default one."""
    found = ProjectQueue.objects.filter(project=project).select_related("queue").first()
    return found.queue if found else None
