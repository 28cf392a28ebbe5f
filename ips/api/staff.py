"""Servers, source IPs and health over the staff API."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Count
from rest_framework.request import Request
from rest_framework.response import Response

from ips import assign, warmup
from ips.models import Sender, Server, SourceIp
from ips.register import is_alive
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint
from queues.manage import NO_QUEUE, find_queue
from relay_project.health import HealthResult, run_all
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.schema import (
    answer,
    body,
    boolean,
    identifier,
    integer,
    listed,
    mapped,
    moment,
    nullable,
    number,
    string,
)

NO_SERVER = "Server with ID {id} does not exist."
NO_ADDRESS = "IP address with ID '{id}' does not exist."
SET_BY_ENVIRONMENT = "The number of workers is a setting of each machine: WEB_WORKERS, SENDER_PROCESSES."

WORKERS = ("api_workers", "email_workers", "webhook_workers", "incoming_workers")
SERVER = answer(
    "Server",
    {
        "id": identifier(),
        "created_at": moment(),
        "hostname": string(),
        "last_ping_at": nullable(moment("A sender's last sign of life.")),
        "is_alive": boolean(),
        "api_workers": integer("By the setting WEB_WORKERS of the process that answers."),
        "email_workers": integer("Sender processes that are registered."),
        "webhook_workers": nullable(integer("Not counted.")),
        "incoming_workers": nullable(integer("Not counted.")),
    },
)
ADDRESS_QUEUE = answer("AddressQueue", {"id": identifier(), "name": string()})
ADDRESS = answer(
    "IpAddress",
    {
        "id": identifier(),
        "created_at": moment(),
        "server_id": identifier(),
        "ip_address": string(),
        "ptr": string("The name in EHLO, which its PTR record has to say."),
        "queue": nullable(ADDRESS_QUEUE),
        "is_ptr_forward_valid": nullable(boolean("Not looked up yet.")),
        "is_ptr_reverse_valid": nullable(boolean("Not looked up yet.")),
        "bind_address": string("What is bound to; another one behind NAT."),
        "is_enabled": boolean(),
        "is_served": boolean("A sender process serves it now."),
        "gone_at": nullable(moment("Since when it is not found on its server.")),
        "warmup_started_on": nullable(string("A day, UTC.", format="date")),
        "warmup_ceiling": nullable(integer("Messages that it may begin today; null: it is warm.")),
    },
)
ADDRESS_CHANGE = body(
    "IpAddressChange",
    {
        "queue_id": identifier("Null: it stands by."),
        "is_enabled": boolean(),
        "is_warming_up": boolean("Begins a warm-up today, or ends it."),
    },
)
HEALTH = answer(
    "HealthChecks",
    {
        "results": mapped(
            answer(
                "HealthCheck",
                {
                    "passed": boolean(),
                    "detail": string(),
                    "data": mapped({}),
                    "checked_at": string("ISO 8601.", format="date-time"),
                    "duration_ms": number(),
                },
            )
        ),
        "last_checked_at": string("ISO 8601.", format="date-time"),
    },
)


class ServersView(StaffEndpoint):
    """`/servers`."""

    @describe("listServers", "List servers", answer=listed(SERVER))
    def get(self, request: Request) -> Response:
        """All machines that ever sent."""
        return Response(server_objects(list(Server.objects.all())))


class ServerView(StaffEndpoint):
    """`/servers/{id}`."""

    @describe(
        "changeServer",
        "Change a server",
        "The numbers of workers are refused: each machine's environment sets them.",
        body=body("ServerChange", {name: integer() for name in WORKERS}),
        answer=SERVER,
        refusals={400: (NO_SERVER.format(id="N"), SET_BY_ENVIRONMENT)},
    )
    def patch(self, request: Request, server_id: str) -> Response:
        """Refuse what only the machine itself can change."""
        server, fields = self.row(Server.objects.all(), server_id, NO_SERVER, 400), self.fields()
        wanted = [fields.integer(name) for name in WORKERS]
        fields.check()
        if any(one is not None for one in wanted):
            raise ApiError(400, SET_BY_ENVIRONMENT)
        return Response(server_objects([server])[0])


class AddressesView(StaffEndpoint):
    """`/ip-addresses`."""

    @describe("listIpAddresses", "List source IPs", answer=listed(ADDRESS))
    def get(self, request: Request) -> Response:
        """All of them, those that are gone included."""
        return Response([address_object(one) for one in SourceIp.objects.select_related("queue")])


class AddressView(StaffEndpoint):
    """`/ip-addresses/{id}`."""

    @describe(
        "changeIpAddress",
        "Change a source IP",
        "A sender follows within a second or two.",
        body=ADDRESS_CHANGE,
        answer=ADDRESS,
        refusals={400: (NO_ADDRESS.format(id="N"), NO_QUEUE.format(id="N"))},
    )
    def patch(self, request: Request, address_id: str) -> Response:
        """Do what the body names."""
        address, fields = self.row(SourceIp.objects.select_related("queue"), address_id, NO_ADDRESS, 400), self.fields()
        queue_id = fields.integer("queue_id")
        is_enabled, is_warming_up = fields.boolean("is_enabled"), fields.boolean("is_warming_up")
        fields.check()
        queue = find_queue(queue_id)
        if "queue_id" in fields.data:  # null is a wish, too
            assign.move(address, queue, **self.by)
        if is_enabled is not None:
            (assign.enable if is_enabled else assign.disable)(address, **self.by)
        if is_warming_up is True:
            warmup.start(address, now=datetime.now(UTC), **self.by)
        elif is_warming_up is False:
            warmup.stop(address, **self.by)
        return Response(address_object(SourceIp.objects.select_related("queue").get(pk=address.pk)))


class HealthChecksView(StaffEndpoint):
    """`/health-checks`: both methods look now; a check takes milliseconds."""

    @describe("getHealthChecks", "Look at the health checks", answer=HEALTH)
    def get(self, request: Request) -> Response:
        """What they find."""
        return Response(health_object(run_all(), datetime.now(UTC)))

    @describe("runHealthChecks", "Run the health checks", answer=HEALTH)
    def post(self, request: Request) -> Response:
        """The same; the contract has both."""
        return Response(health_object(run_all(), datetime.now(UTC)))


def server_objects(servers: list[Server]) -> list[dict[str, Any]]:
    """Servers, in the contract's shape."""
    now = datetime.now(UTC)
    senders = dict(Sender.objects.filter(server__in=servers).order_by().values_list("server_id").annotate(Count("pk")))
    return [
        {
            "id": server.pk,
            "created_at": timestamp(server.created_at),
            "hostname": server.hostname,
            "last_ping_at": timestamp(server.last_ping_at),
            "is_alive": is_alive(server, now),
            "api_workers": settings.WEB_WORKERS,
            "email_workers": senders.get(server.pk, 0),
            "webhook_workers": None,
            "incoming_workers": None,
        }
        for server in servers
    ]


def address_object(address: SourceIp) -> dict[str, Any]:
    """A source IP, in the contract's shape; from `bind_address` on it is ours."""
    began = address.warmup_started_on
    return {
        "id": address.pk,
        "created_at": timestamp(address.created_at),
        "server_id": address.server_id,
        "ip_address": address.address,
        "ptr": address.helo_name,
        "queue": {"id": address.queue.pk, "name": address.queue.name} if address.queue else None,
        "is_ptr_forward_valid": None,
        "is_ptr_reverse_valid": None,
        "bind_address": address.local_address,
        "is_enabled": address.is_enabled,
        "is_served": address.served_by_id is not None,
        "gone_at": timestamp(address.gone_at),
        "warmup_started_on": began.isoformat() if began else None,
        "warmup_ceiling": warmup.ceiling(began, datetime.now(UTC).date(), settings.WARMUP_PLAN),
    }


def health_object(results: list[HealthResult], now: datetime) -> dict[str, Any]:
    """Health checks, in the contract's shape; `detail` is ours."""
    at = now.isoformat(timespec="seconds")
    return {
        "results": {
            result.name: {
                "passed": result.passed,
                "detail": result.detail,
                "data": dict(result.data),
                "checked_at": at,
                "duration_ms": result.duration_ms,
            }
            for result in results
        },
        "last_checked_at": at,
    }
