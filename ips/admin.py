"""Staff admin: servers, senders and source IPs."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

from accounts import audit
from ips import assign, warmup
from ips.health import CONTESTED_SECONDS, SILENT_SECONDS
from ips.incident_admin import IncidentAdmin
from ips.models import SendCount, Sender, Server, SourceIp
from ips.register import is_alive
from ips.site_admin import HeldSiteAdmin, SendCountAdmin, SiteLimitAdmin, SitePauseAdmin
from ips.tls_admin import MtaStsPolicyAdmin, TlsOverrideAdmin
from queues.models import Queue
from relay_project.web.staff import Confirmation, Facts, Link, column, confirmed

__all__ = [  # registered there
    "HeldSiteAdmin",
    "IncidentAdmin",
    "MtaStsPolicyAdmin",
    "SendCountAdmin",
    "SiteLimitAdmin",
    "SitePauseAdmin",
    "TlsOverrideAdmin",
]


class QueueChoice(Confirmation):
    """Which queue an address is to carry."""

    queue = forms.ModelChoiceField(
        Queue.objects.all(), required=False, empty_label="None: it stands by", widget=UnfoldAdminSelectWidget()
    )


IP_STATES = {"in use": "success", "contested": "danger", "disabled": "warning", "gone": "danger", "idle": "info"}


def is_contested(at: datetime | None) -> bool:
    """Another machine has said so lately."""
    return at is not None and timezone.now() - at < timedelta(seconds=CONTESTED_SECONDS)


@admin.register(SourceIp)
class SourceIpAdmin(Facts):
    """The addresses that mail leaves from."""

    computed = ("name_in_ehlo", "warm_up")
    list_display = (
        "address",
        "name_in_ehlo",
        Link("queue", Queue),
        Link("server", Server, "hostname"),
        "state",
        "warm_up",
        Link("served_by", Sender, "pk"),
    )
    list_filter = ("is_enabled", "queue", "server")
    search_fields = ("address",)
    search_help_text = "Address"
    actions_detail = ("enable", "disable", "move", "start_warm_up", "stop_warm_up")

    @column("EHLO name")
    def name_in_ehlo(self, source_ip: SourceIp) -> str:
        """What its PTR record must say."""
        return source_ip.helo_name

    @column("state", label=IP_STATES)
    def state(self, source_ip: SourceIp) -> str:
        """Whether mail leaves from it, and whether another machine names it too."""
        if source_ip.gone_at:
            return "gone"
        if is_contested(source_ip.contested_at):
            return "contested"
        if not source_ip.is_enabled:
            return "disabled"
        return "in use" if source_ip.served_by_id and source_ip.queue_id else "idle"

    @confirmed(
        "Enable",
        question="Mail will leave from {} again. Continue?",
        icon="check_circle",
        fits=lambda source_ip: not source_ip.is_enabled,
    )
    def enable(self, request: HttpRequest, source_ip: SourceIp, data: dict[str, Any]) -> str:
        """Use an address again."""
        assign.enable(source_ip, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"{source_ip} is enabled."

    @confirmed(
        "Disable",
        question="No mail will leave from {}; what waits for it moves to another address. Continue?",
        icon="block",
        fits=lambda source_ip: source_ip.is_enabled,
        danger=True,
    )
    def disable(self, request: HttpRequest, source_ip: SourceIp, data: dict[str, Any]) -> str:
        """Start no more mail from an address."""
        assign.disable(source_ip, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"{source_ip} is disabled."

    @confirmed(
        "Move to queue",
        question="Which queue shall {} carry?",
        icon="move_up",
        form=QueueChoice,
    )
    def move(self, request: HttpRequest, source_ip: SourceIp, data: dict[str, Any]) -> str:
        """Let an address carry another queue."""
        moved = assign.move(source_ip, data["queue"], actor=audit.actor_of(request), address=audit.address_of(request))
        where = f"carries {data['queue']}" if data["queue"] else "stands by"
        return f"{source_ip} {where} now." if moved else f"{source_ip} {where} already."

    @column("warm-up")
    def warm_up(self, source_ip: SourceIp) -> str:
        """The day of its warm-up, and how much of its ceiling is used; a dash for one that is warm."""
        now = timezone.now()
        began = source_ip.warmup_started_on
        ceiling = warmup.ceiling(began, now.date(), settings.WARMUP_PLAN)
        if began is None or ceiling is None:
            return "–"
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        today = SendCount.objects.filter(source_ip=source_ip, site="", window=SendCount.Window.DAY, window_start=day)
        sent = today.values_list("count", flat=True).first() or 0
        return f"day {(now.date() - began).days + 1} of {len(settings.WARMUP_PLAN)}: {sent:,} of {ceiling:,} messages"

    @confirmed(
        "Start warm-up",
        question="From today {} begins no more messages a day than the plan says; what is over goes by other addresses of "
        "its queue, or waits. Continue?",
        icon="device_thermostat",
        fits=lambda source_ip: not _is_warming(source_ip),
    )
    def start_warm_up(self, request: HttpRequest, source_ip: SourceIp, data: dict[str, Any]) -> str:
        """Give an address time to become known."""
        actor, address = audit.actor_of(request), audit.address_of(request)
        warmup.start(source_ip, actor=actor, now=timezone.now(), address=address)
        return f"{source_ip} is being warmed up: at most {settings.WARMUP_PLAN[0]} messages today."

    @confirmed(
        "Stop warm-up",
        question="From now on {} carries as much as any other address. Continue?",
        icon="local_fire_department",
        fits=lambda source_ip: _is_warming(source_ip),
        danger=True,
    )
    def stop_warm_up(self, request: HttpRequest, source_ip: SourceIp, data: dict[str, Any]) -> str:
        """Count an address as warm."""
        warmup.stop(source_ip, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"{source_ip} counts as warm."


def _is_warming(source_ip: SourceIp) -> bool:
    return warmup.ceiling(source_ip.warmup_started_on, timezone.now().date(), settings.WARMUP_PLAN) is not None


@admin.register(Server)
class ServerAdmin(Facts):
    """Machines that run Relay."""

    list_display = ("id", "hostname", "state", "last_ping_at", "created_at")
    list_display_links = ("id", "hostname")

    @column("state", label={"sending": "success", "contested": "danger", "silent": "warning"})
    def state(self, server: Server) -> str:
        """Whether its senders were heard of, and whether another machine goes by its name."""
        if is_contested(server.contested_at):
            return "contested"
        return "sending" if is_alive(server, timezone.now()) else "silent"


@admin.register(Sender)
class SenderAdmin(Facts):
    """Starts of sender processes."""

    list_display = ("id", Link("server", Server, "hostname"), "pid", "state", "started_at", "heartbeat_at")

    @column("state", label={"alive": "success", "silent": "danger"})
    def state(self, sender: Sender) -> str:
        """By its heartbeat alone; whether it is dead is decided with its lock (ips.senders)."""
        fresh = timezone.now() - sender.heartbeat_at < timedelta(seconds=SILENT_SECONDS)
        return "alive" if fresh else "silent"
