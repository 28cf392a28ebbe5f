"""Staff admin: which domains projects receive mail for, where it goes, and what came."""

from django.contrib import admin

from projects.models import Project
from relay_project.web.staff import Facts, Happened, Link, column
from sending.models import InboundMail, InboundRoute, ReceivedMail, ReceivingDomain, Send, UnexaminedMail

PROJECT = Link("project", Project)
DMARC_LABELS = {"pass": "success", "fail": "danger", "temperror": "warning", "permerror": "warning"}
ACTION_LABELS = {"event": "success", "forward": "info", "drop": "warning", "reject": "warning"}


@admin.register(ReceivingDomain)
class ReceivingDomainAdmin(Facts):
    """Domains that projects receive mail for."""

    list_display = ("domain", PROJECT, "mx_checked_at", "mx_error_message", "created_at")
    search_fields = ("domain__exact",)
    search_help_text = "Exact domain"


@admin.register(InboundRoute)
class InboundRouteAdmin(Facts):
    """Where their mail goes."""

    list_display = ("pattern", Link("domain", ReceivingDomain, "domain"), PROJECT, "priority", "does", "is_enabled")
    list_filter = ("action", "is_enabled")
    ordering = ("-id",)

    @column("action", label=ACTION_LABELS)
    def does(self, route: InboundRoute) -> str:
        """What becomes of the mail."""
        return str(route.action)


@admin.register(ReceivedMail)
class ReceivedMailAdmin(Happened):
    """Mail that fitted a route. Its content is its project's; the source has a page that writes down who looked."""

    ids = ("pk", "mail_id")
    words = ("mail_from", "from_address")
    secret = ("authentication",)
    computed = ("when", "dmarc", "spf")
    links = (
        Link("mail", InboundMail, "peer"),
        Link("route", InboundRoute, "pattern"),
        Link("forward_send", Send, "subject"),
        Link("returns_send", Send, "subject"),
    )
    list_display = ("when", PROJECT, "mail_from", "from_address", "subject", "dmarc", "size_bytes")
    search_help_text = "Id, or exact sender"

    @column("DMARC", label=DMARC_LABELS)
    def dmarc(self, row: ReceivedMail) -> str:
        """Whether it is from whom it says."""
        return _result(row, "dmarc")

    @column("SPF")
    def spf(self, row: ReceivedMail) -> str:
        """Whether the peer may send for the reverse path's domain."""
        return _result(row, "spf")


@admin.register(UnexaminedMail)
class UnexaminedMailAdmin(Facts):
    """Received mail that waits for its look at DNS."""

    list_display = (Link("received", ReceivedMail, "subject"), "due_at", "tries")
    list_display_links = ("due_at",)
    ordering = ("due_at",)


def _result(row: ReceivedMail, name: str) -> str:
    found = row.authentication.get(name)
    return str(found["result"]) if found else "–"
