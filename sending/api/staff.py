"""Everybody's sends, orders over queues, the backlog and installation-wide suppressions over the staff API."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit
from ips.sites import MAX_SITE
from projects.models import Project
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint, page_of
from queues.manage import NO_QUEUE, find_queue
from queues.models import Queue
from relay_project.mail.address import InvalidDomain
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError, violation
from relay_project.web.fields import Fields
from relay_project.web.pagination import read_number, read_page
from relay_project.web.schema import (
    EMPTY_LIST,
    answer,
    body,
    boolean,
    choice,
    identifier,
    integer,
    listed,
    moment,
    nullable,
    number,
    page,
    string,
    text,
)
from sending.api.schemas import ARCHIVE, ARCHIVED, SEND_CONTENT, SEND_FILTER
from sending.api.sends import find_by_uuid, read_filter
from sending.backlog import orders
from sending.backlog.depth import read_depths
from sending.backlog.orders import By as OrderedBy
from sending.backlog.orders import Order, OrderRefused
from sending.backlog.remove_queue import DEFAULT, HAS_ADDRESSES, HAS_MAIL, HAS_PROJECTS, remove_queue
from sending.backlog.stopped import archive_project
from sending.backlog.stretch import Wanted, read_domain
from sending.content import raw_message, stored_message
from sending.models import Operation, OperationKind, Send
from sending.objects import content_object, full_send_object, send_objects
from sending.search import find_everybodys, find_sends

NEEDS_PROJECT = "A search needs project_id; without one, limit, before_id and dates are taken."
NO_PROJECT = "Project not found"
NO_CONTENT = "Content for send with UUID {uuid} not found: it is no longer kept"

PROJECT_NAME = answer("ProjectName", {"id": identifier(), "name": string()})
STAFF_SEND = {"type": "object", "description": "A Send, and its `project_id`."}
DEPTH = answer(
    "QueueDepth",
    {
        "queue_name": string(),
        "due": integer("Recipients that could leave now."),
        "later": integer("Those that wait for a time."),
        "in_flight": integer(),
        "held": integer("Those whose receiving site may not be tried now."),
        "oldest_due_seconds": number(),
    },
)
ORDER = answer(
    "QueueOrder",
    {
        "id": identifier(),
        "kind": choice(OperationKind.values),
        "queue_id": identifier(),
        "to_queue_id": nullable(identifier("Of a reroute.")),
        "project_id": nullable(identifier()),
        "domain": string("Of the recipients; empty: all."),
        "site": string("Receiving site; empty: all."),
        "with_scheduled": boolean(),
        "reason": string(),
        "ordered_by": string(),
        "ordered_at": moment(),
        "done": integer("Recipients."),
        "left_in_flight": integer(),
        "left_scheduled": integer(),
        "ended_at": nullable(moment()),
        "stopped_at": nullable(moment("The rest was taken back.")),
    },
)
NEW_ORDER = body(
    "NewQueueOrder",
    {
        "kind": choice(OperationKind.values, "`flush`: due now; `reroute`: to another queue; `purge`: cancelled."),
        "queue_id": identifier(),
        "to_queue_id": identifier("Of a reroute."),
        "project_id": identifier("Only this project's mail."),
        "domain": text("Only mail to this domain.", format="domain"),
        "site": text("Only mail that hangs at this site, or was tried there last.", maximum=MAX_SITE),
        "with_scheduled": boolean("A flush hurries scheduled mail, too."),
        "reason": text("Kept in the audit log; a purge shows it to those whose mail it is.", blank=False),
    },
    ["kind", "queue_id", "reason"],
)


class StaffSendsView(StaffEndpoint):
    """`/sends`."""

    @describe(
        "staffListSends",
        "List everybody's sends",
        "The newest first. A search is for one project's sends; without `project_id` only dates and pages are taken.",
        query={**SEND_FILTER, "project_id": integer("Needed by a search.")},
        answer=answer("StaffSends", {"sends": listed(STAFF_SEND), "projects": listed(PROJECT_NAME)}),
        refusals={404: (NO_PROJECT,)},
    )
    def get(self, request: Request) -> Response:
        """A page of sends."""
        query = request.query_params
        wanted, page, project_id = read_filter(query), read_page(query), read_number(query, "project_id")
        if project_id is not None:
            if not Project.objects.filter(pk=project_id).exists():
                raise ApiError(404, NO_PROJECT)
            return Response(_page(find_sends(project_id, wanted, page.limit, page.before_id)))
        if not wanted.is_of_dates_only:
            raise violation("project_id", NEEDS_PROJECT)
        return Response(_page(find_everybodys(wanted, page.limit, page.before_id)))


class StaffSendView(StaffEndpoint):
    """`/sends/uuid/{uuid}`."""

    @describe(
        "staffGetSend",
        "Get anybody's send",
        answer=answer("StaffOneSend", {"send": STAFF_SEND, "project": nullable(PROJECT_NAME)}),
    )
    def get(self, request: Request, send_uuid: str) -> Response:
        """One send with its attempts."""
        send = _send(send_uuid)
        shown = {**full_send_object(send, datetime.now(UTC)), "project_id": send.project_id}
        return Response({"send": shown, "project": next(iter(_names([send])), None)})


class StaffContentView(StaffEndpoint):
    """`/sends/uuid/{uuid}/content`."""

    @describe(
        "staffGetSendContent",
        "Get what anybody sent",
        "It is somebody else's mail: the audit log of the project tells that you read it.",
        answer=SEND_CONTENT,
        refusals={404: ("Send with UUID … not found", NO_CONTENT.format(uuid="…"))},
    )
    def get(self, request: Request, send_uuid: str) -> Response:
        """What was sent, and an entry in the audit log."""
        send = _send(send_uuid)
        stored, raw = stored_message(send), raw_message(send)
        if stored is None or raw is None:
            raise ApiError(404, NO_CONTENT.format(uuid=send.uuid))
        audit.record("content.viewed", subject=send, project_id=send.project_id, **self.by)
        return Response(content_object(stored, raw))


class StaffArchiveView(StaffEndpoint):
    """`/projects/{id}/archive`."""

    @describe(
        "staffArchiveProject",
        "Archive a project",
        "Its keys open nothing from then on. What waits of it must be gone, or is cancelled with `cancel_waiting`.",
        body=ARCHIVE,
        example={"cancel_waiting": True},
        answer=ARCHIVED,
    )
    def post(self, request: Request, project_id: str) -> Response:
        """Put it away."""
        project, fields = self.row(Project.objects.all(), project_id, NO_PROJECT), self.fields()
        cancel_waiting = bool(fields.boolean("cancel_waiting"))
        fields.check()
        cancelled = archive_project(project, cancel_waiting, datetime.now(UTC), self.caller)
        return Response({"id": project.pk, "status": "archived", "cancelled_recipients": cancelled})


class DepthsView(StaffEndpoint):
    """`/backlog`."""

    @describe("getBacklog", "How much waits, by queue", "Costs by what waits.", answer=listed(DEPTH))
    def get(self, request: Request) -> Response:
        """Every queue's depth."""
        return Response([asdict(depth) for depth in read_depths(datetime.now(UTC))])


class QueueView(StaffEndpoint):
    """`/queues/{id}`."""

    @describe(
        "removeQueue",
        "Remove a queue",
        answer=EMPTY_LIST,
        refusals={400: (NO_QUEUE.format(id="N"), DEFAULT, HAS_MAIL, HAS_PROJECTS, HAS_ADDRESSES)},
    )
    def delete(self, request: Request, queue_id: str) -> Response:
        """One that nothing is in."""
        remove_queue(self.row(Queue.objects.all(), queue_id, NO_QUEUE, 400), **self.by)
        return Response([])


class OrdersView(StaffEndpoint):
    """`/orders`."""

    @describe(
        "listQueueOrders", "List orders over queues", query=page("limit", "before_id", "offset"), answer=listed(ORDER)
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        return Response(
            [order_object(row) for row in page_of(Operation.objects.all(), read_page(request.query_params))]
        )

    @describe(
        "orderQueue",
        "Flush, reroute or purge a queue's mail",
        "Carried out in the background, in steps; what is in flight is left. Mail accepted later is not part of it.",
        body=NEW_ORDER,
        example={"kind": "flush", "queue_id": 1, "domain": "example.com", "reason": "They are back."},
        answer=ORDER,
        refusals={400: (NO_QUEUE.format(id="N"),)},
    )
    def post(self, request: Request) -> Response:
        """Write the order down; housekeeping carries it out."""
        order = _read_order(self.fields())
        try:
            given = orders.give(order, OrderedBy(**self.by), datetime.now(UTC))
        except OrderRefused as refused:
            field = "to_queue_id" if refused.field == "to" else refused.field
            raise violation("with_scheduled" if field == "scheduled" else field, str(refused)) from None
        return Response(order_object(given))


class StopOrderView(StaffEndpoint):
    """`/orders/{id}/stop`."""

    @describe("stopQueueOrder", "Take back the rest of an order", "What was done stays done.", answer=ORDER)
    def post(self, request: Request, order_id: str) -> Response:
        """Stop it; one that has ended stays as it is."""
        operation = self.row(Operation.objects.all(), order_id)
        orders.stop(operation, OrderedBy(**self.by), datetime.now(UTC))
        return Response(order_object(operation))


def order_object(row: Operation) -> dict[str, Any]:
    """QueueOrder."""
    plain = ("kind", "queue_id", "project_id", "domain", "site", "with_scheduled", "reason", "ordered_by")
    counts = ("done", "left_in_flight", "left_scheduled")
    moments = ("ordered_at", "ended_at", "stopped_at")
    return {
        "id": row.pk,
        "to_queue_id": row.target_id,
        **{name: getattr(row, name) for name in (*plain, *counts)},
        **{name: timestamp(getattr(row, name)) for name in moments},
    }


def _read_order(fields: Fields) -> Order:
    kind = fields.choice("kind", OperationKind.values, required=True)
    queue_id, target_id = fields.integer("queue_id", required=True), fields.integer("to_queue_id")
    project_id, domain = fields.integer("project_id"), fields.text("domain") or ""
    site = fields.text("site", maximum=MAX_SITE) or ""
    with_scheduled, reason = fields.boolean("with_scheduled"), fields.text("reason", required=True)
    try:
        domain = read_domain(domain)
    except InvalidDomain as error:
        fields.note("domain", f"This is {error}.")
    if project_id is not None and not Project.objects.filter(pk=project_id).exists():
        fields.note("project_id", NO_PROJECT)
    fields.check()
    queue = find_queue(queue_id)
    assert queue is not None  # it is required
    wanted = Wanted(queue.pk, project_id, domain, site.strip().lower())
    return Order(OperationKind(kind or ""), wanted, reason or "", find_queue(target_id), bool(with_scheduled))


def _send(send_uuid: str) -> Send:
    send = find_by_uuid(send_uuid)
    if send is None:
        raise ApiError(404, f"Send with UUID {send_uuid[:64]} not found")
    return send


def _page(sends: Sequence[Send]) -> dict[str, Any]:
    shown = zip(send_objects(sends), sends, strict=True)
    return {"sends": [{**one, "project_id": send.project_id} for one, send in shown], "projects": _names(sends)}


def _names(sends: Sequence[Send]) -> list[dict[str, Any]]:
    projects = Project.objects.filter(pk__in={send.project_id for send in sends}).order_by("pk")
    return [{"id": project.pk, "name": project.name} for project in projects]
