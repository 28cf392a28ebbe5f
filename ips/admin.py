"""Staff admin: servers, senders, source IPs and sites that are held."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

from accounts import audit
from ips import assign
from ips.health import SILENT_SECONDS
from ips.incident_admin import IncidentAdmin
from ips.models import HeldSite, Sender, Server, SourceIp
from ips.tls_admin import MtaStsPolicyAdmin, TlsOverrideAdmin
from queues.models import Queue
from relay_project.web.staff import Confirmation, Facts, Link, column, confirmed

__all__ = ["IncidentAdmin", "MtaStsPolicyAdmin", "TlsOverrideAdmin"]  # registered there


class QueueChoice(Confirmation):
    """Which queue an address is to carry."""

    queue = forms.ModelChoiceField(
        Queue.objects.all(), required=False, empty_label="None: it stands by", widget=UnfoldAdminSelectWidget()
    )


@admin.register(SourceIp)
class SourceIpAdmin(Facts):
    """The addresses that mail leaves from."""

    computed = ("name_in_ehlo",)
    list_display = (
        "address",
        "name_in_ehlo",
        Link("queue", Queue),
        Link("server", Server, "hostname"),
        "state",
        Link("served_by", Sender, "pk"),
    )
    list_filter = ("is_enabled", "queue", "server")
    search_fields = ("address",)
    search_help_text = "Address"
    actions_detail = ("enable", "disable", "move")

    @column("EHLO name")
    def name_in_ehlo(self, source_ip: SourceIp) -> str:
        """What its PTR record must say."""
        return source_ip.helo_name

    @column("state", label={"in use": "success", "disabled": "warning", "gone": "danger", "idle": "info"})
    def state(self, source_ip: SourceIp) -> str:
        """Whether mail leaves from it."""
        if source_ip.gone_at:
            return "gone"
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


@admin.register(Server)
class ServerAdmin(Facts):
    """Machines that run Relay."""

    list_display = ("id", "hostname", "last_ping_at", "created_at")
    list_display_links = ("id", "hostname")


@admin.register(Sender)
class SenderAdmin(Facts):
    """Starts of sender processes."""

    list_display = ("id", Link("server", Server, "hostname"), "pid", "state", "started_at", "heartbeat_at")

    @column("state", label={"alive": "success", "silent": "danger"})
    def state(self, sender: Sender) -> str:
        """By its heartbeat alone; whether it is dead is decided with its lock (ips.senders)."""
        fresh = timezone.now() - sender.heartbeat_at < timedelta(seconds=SILENT_SECONDS)
        return "alive" if fresh else "silent"


@admin.register(HeldSite)
class HeldSiteAdmin(Facts):
    """Receiving sites that may not be tried now, and why."""

    list_display = ("id", "site", Link("queue", Queue), Link("source_ip", SourceIp, "address"), "next_slot", "reason")
    list_display_links = ("id", "site")
    list_filter = ("queue",)
    search_fields = ("site",)
    search_help_text = "Site"
