"""Queues over the staff API."""

from datetime import UTC, datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from projects.models import Project
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint
from queues import pause
from queues.manage import EXISTS, MAX_NAME, NAME, NO_QUEUE, NOT_A_NAME, create_queue, dedicate, find_queue, own_queue
from queues.models import ProjectQueue, Queue
from relay_project.web.describe import describe
from relay_project.web.schema import answer, body, boolean, identifier, listed, moment, nullable, string, text

QUEUE = answer(
    "Queue",
    {
        "id": identifier(),
        "created_at": moment(),
        "updated_at": moment("When it was made, or paused."),
        "name": string(),
        "is_default": boolean("Takes the mail of every project of this type that has no queue of its own."),
        "paused_at": nullable(moment()),
        "pause_reason": string(),
        "project_ids": listed(identifier(), "Projects that staff gave this queue."),
    },
)
NEW_QUEUE = body("NewQueue", {"name": text(NOT_A_NAME, maximum=MAX_NAME, pattern=f"^{NAME.pattern}$")}, ["name"])
REASON = body("PauseReason", {"reason": text("Kept in the audit log and shown to staff.", blank=False)}, ["reason"])
OWN_QUEUE = answer("ProjectsQueue", {"project_id": identifier(), "queue": nullable(QUEUE)})


class QueuesView(StaffEndpoint):
    """`/queues`."""

    @describe("listQueues", "List queues", answer=listed(QUEUE))
    def get(self, request: Request) -> Response:
        """All of them; there are few."""
        return Response(queue_objects(list(Queue.objects.all())))

    @describe(
        "createQueue",
        "Make a queue",
        "Give it source IPs, and then projects, whose mail takes it from then on.",
        body=NEW_QUEUE,
        example={"name": "shop"},
        answer=QUEUE,
        refusals={400: (EXISTS,)},
    )
    def post(self, request: Request) -> Response:
        """A new one."""
        fields = self.fields()
        name = fields.text("name", required=True, maximum=MAX_NAME) or ""
        fields.check()
        return Response(queue_objects([create_queue(name, **self.by)])[0])


class QueueActionView(StaffEndpoint):
    """What is done to one queue."""

    def queue(self, queue_id: str) -> Queue:
        """The queue of the path; 400 as the contract has it."""
        return self.row(Queue.objects.all(), queue_id, NO_QUEUE, 400)


class PauseQueueView(QueueActionView):
    """`/queues/{id}/pause`."""

    @describe("pauseQueue", "Pause a queue", "Nothing more of it is sent; its mail waits.", body=REASON, answer=QUEUE)
    def post(self, request: Request, queue_id: str) -> Response:
        """Stop claiming; one that is paused already keeps its reason."""
        queue, fields = self.queue(queue_id), self.fields()
        reason = fields.text("reason", required=True) or ""
        fields.check()
        pause.pause(queue, reason=reason, now=datetime.now(UTC), **self.by)
        return Response(queue_objects([queue])[0])


class ResumeQueueView(QueueActionView):
    """`/queues/{id}/resume`."""

    @describe("resumeQueue", "Let a queue go on", answer=QUEUE)
    def post(self, request: Request, queue_id: str) -> Response:
        """Claim again."""
        queue = self.queue(queue_id)
        pause.resume(queue, now=datetime.now(UTC), **self.by)
        return Response(queue_objects([queue])[0])


class ProjectQueueView(StaffEndpoint):
    """`/projects/{id}/queue`."""

    @describe("getProjectQueue", "Which queue a project was given", answer=OWN_QUEUE)
    def get(self, request: Request, project_id: str) -> Response:
        """The project's own queue, or null."""
        return Response(_own_queue(self.row(Project.objects.all(), project_id, "Project not found")))

    @describe(
        "setProjectQueue",
        "Give a project a queue of its own",
        "Null: the default one of what it sends. What waits stays where it is; an order of kind `reroute` moves it.",
        body=body("ProjectQueueChange", {"queue_id": identifier()}),
        answer=OWN_QUEUE,
        refusals={400: (NO_QUEUE.format(id="N"),)},
    )
    def put(self, request: Request, project_id: str) -> Response:
        """The project's mail takes this queue from now on."""
        project, fields = self.row(Project.objects.all(), project_id, "Project not found"), self.fields()
        queue = find_queue(fields.integer("queue_id"))
        fields.check()
        dedicate(project, queue, **self.by)
        return Response(_own_queue(project))


def queue_objects(queues: list[Queue]) -> list[dict[str, Any]]:
    """Queues, in the contract's shape; what follows `name` is ours."""
    owned: dict[int, list[int]] = {queue.pk: [] for queue in queues}
    for row in ProjectQueue.objects.filter(queue__in=queues).order_by("project_id"):
        owned[row.queue_id].append(row.project_id)
    return [
        {
            "id": queue.pk,
            "created_at": timestamp(queue.created_at),
            "updated_at": timestamp(max(queue.created_at, queue.paused_at or queue.created_at)),
            "name": queue.name,
            "is_default": queue.is_default,
            "paused_at": timestamp(queue.paused_at),
            "pause_reason": queue.pause_reason,
            "project_ids": owned[queue.pk],
        }
        for queue in queues
    ]


def _own_queue(project: Project) -> dict[str, Any]:
    queue = own_queue(project)
    return {"project_id": project.pk, "queue": queue_objects([queue])[0] if queue else None}
