"""Staff admin: projects, members, API keys, domains and their keys, the event log."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from accounts import audit
from projects import domain_status, life, limits
from projects.access import record_by
from projects.api_keys import KeyChange, update_key
from projects.by_staff import by_staff
from projects.domain_check import check_now
from projects.member_admin import FormerSecretAdmin, InvitationAdmin, MembershipAdmin, NoticeAdmin
from projects.models import ApiKey, DkimKey, Domain, DomainStatus, Event, EventOutbox, FeedPosition, Project, Suspension
from projects.report_admin import DomainReportAdmin
from projects.staff_key_admin import StaffKeyAdmin
from relay_project.web.staff import Confirmation, Facts, Happened, Link, WithReason, column, confirmed, disabling

__all__ = [
    "DomainReportAdmin",
    "FormerSecretAdmin",
    "InvitationAdmin",
    "MembershipAdmin",
    "NoticeAdmin",
    "StaffKeyAdmin",
]  # registered there

PROJECT = Link("project", Project)
STATUS_LABELS = {"active": "success", "pending": "info", "warning": "warning", "suspended": "danger"}
KEY_LABELS = {"active": "success", "pending": "info", "retiring": "warning"}


class LimitsForm(Confirmation):
    """A project's own numbers; what is left empty is the instance's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in limits.NAMES:
            least, most = limits.bounds_of(name)
            default = limits.default_of(name)
            self.fields[name] = forms.IntegerField(
                required=False,
                min_value=least,
                max_value=most,
                widget=UnfoldAdminIntegerFieldWidget(),
                help_text=f"{LIMIT_HELP[name]} Empty: {f'{default:,}' if default else 'no limit'}.",
            )


LIMIT_HELP = {
    "requests_per_minute": "Requests of the API by one key, but for sending.",
    "session_requests_per_minute": "Requests of the API by one person.",
    "sends_per_second": "Messages by all API keys together.",
    "sends_per_hour": "Messages in an hour of the clock; 0: no limit.",
    "sends_per_day": "Messages in a day (UTC); 0: no limit.",
    "recipients_per_send": "To, Cc and Bcc of one message together.",
    "message_bytes": "Octets of one composed message.",
}


class SuspendForm(WithReason):
    """Why, for those whose mail it is."""

    reason = forms.CharField(
        max_length=life.MAX_REASON,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Shown to the project's people and programs, and kept in the audit log.",
    )


class Standing(admin.SimpleListFilter):
    """Whether a project may send."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The choices."""
        return [("active", "Active"), ("suspended", "Suspended"), ("archived", "Archived")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """The chosen ones."""
        wanted = {
            "active": Q(suspended_at=None, archived_at=None),
            "suspended": Q(suspended_at__isnull=False),
            "archived": Q(archived_at__isnull=False),
        }
        return queryset.filter(wanted.get(self.value() or "", Q()))


@admin.register(Suspension)
class SuspensionAdmin(Facts):
    """Times in which staff let nothing of a project leave."""

    list_display = ("id", PROJECT, "began_at", "ended_at", "reason")


@admin.register(Project)
class ProjectAdmin(Facts):
    """Tenants."""

    actions_detail = ("set_limits", "suspend", "resume", "archive", "restore")
    computed = ("state",)

    @column("state", label={"active": "success", "suspended": "danger", "archived": "info"})
    def state(self, project: Project) -> str:
        """Whether it may send."""
        return "archived" if project.archived_at else "suspended" if project.suspended_at else "active"

    @confirmed(
        "Suspend",
        question="Nothing of “{}” will be accepted or sent until it is resumed; what waits is kept. Continue?",
        icon="block",
        form=SuspendForm,
        fits=lambda project: not (project.suspended_at or project.is_system),
        danger=True,
    )
    def suspend(self, request: HttpRequest, project: Project, data: dict[str, Any]) -> str:
        """Stop a project's mail."""
        life.suspend(project, data["reason"], timezone.now(), by_staff(request))
        return f"{project} is suspended."

    @confirmed(
        "Resume",
        question="“{}” may send again, and what waits leaves now. Continue?",
        icon="play_arrow",
        fits=lambda project: project.suspended_at is not None,
    )
    def resume(self, request: HttpRequest, project: Project, data: dict[str, Any]) -> str:
        """Let a suspended project send."""
        life.resume(project, timezone.now(), by_staff(request))
        return f"{project} may send again."

    @confirmed(
        "Archive",
        question="The keys of “{}” stop working, its people do not find it any more, and all of its mail that waits "
        "is cancelled. Continue?",
        icon="archive",
        fits=lambda project: not (project.archived_at or project.is_system),
        danger=True,
    )
    def archive(self, request: HttpRequest, project: Project, data: dict[str, Any]) -> str:
        """Put a project away; housekeeping cancels what waits."""
        life.archive(project, timezone.now(), by_staff(request))
        return f"{project} is archived."

    @confirmed(
        "Restore",
        question="“{}” comes back with its keys, domains and people. Continue?",
        icon="unarchive",
        fits=lambda project: project.archived_at is not None,
    )
    def restore(self, request: HttpRequest, project: Project, data: dict[str, Any]) -> str:
        """Bring an archived project back."""
        life.restore(project, timezone.now(), by_staff(request))
        return f"{project} is back."

    @confirmed(
        "Set limits",
        question="What may “{}” do? It holds from the next request on. Continue?",
        icon="speed",
        form=LimitsForm,
        initial=lambda project: {name: getattr(project, name) for name in limits.NAMES},
    )
    def set_limits(self, request: HttpRequest, project: Project, data: dict[str, Any]) -> str:
        """Give a project numbers of its own, or the instance's again."""
        limits.set_limits(project, data, by_staff(request))
        return f"The limits of {project} are set."

    list_display = ("id", "name", "send_type", "state", "is_system", "created_at")
    list_display_links = ("id", "name")
    list_filter = (Standing, "send_type")
    search_fields = ("name",)
    search_help_text = "Name"


@admin.register(ApiKey)
class ApiKeyAdmin(Facts):
    """API keys: what they may do and when they were used. Never the key, nor its hash."""

    secret = ("key_hash",)
    list_display = ("id", "name", PROJECT, "is_enabled", "is_test", "expires_at", "last_accessed_at")
    list_display_links = ("id", "name")
    list_filter = ("is_enabled", "is_test")
    search_fields = ("name", "project__name")
    search_help_text = "Name of the key or the project"
    actions_detail = ("disable",)

    @disabling(question="Every request with the key “{}” will be refused from now on. Continue?", icon="key_off")
    def disable(self, request: HttpRequest, key: ApiKey, data: dict[str, Any]) -> str:
        """Refuse a key, say because it leaked; the project's owner may enable it again."""
        with transaction.atomic():
            update_key(key, KeyChange(is_enabled=False))
            record_by(by_staff(request), "api_key.disabled", key, key.project, reason=data["reason"])
        return f"{key} is disabled."


@admin.register(Domain)
class DomainAdmin(Facts):
    """Sending domains and their checks."""

    list_display = ("id", "domain", PROJECT, "state", "dkim_checked_at", "failed_checks", "return_path", "created_at")
    list_display_links = ("id", "domain")
    list_filter = ("status",)
    search_fields = ("domain",)
    search_help_text = "Domain"
    actions_detail = ("look", "suspend", "reinstate")

    @confirmed(
        "Check now",
        question="The records of {}, its new keys and its return path are looked for in DNS. Continue?",
        icon="refresh",
        fits=lambda domain: domain.status != DomainStatus.SUSPENDED and not domain.project.is_system,
    )
    def look(self, request: HttpRequest, domain: Domain, data: dict[str, Any]) -> str:
        """Look for what is to be in DNS, as its owner may."""
        domain = check_now(domain, timezone.now())
        return f"{domain} is {domain.status}. {domain.dkim_error_message or ''}".strip()

    @confirmed(
        "Suspend",
        question="{} will send nothing until it is reinstated; its owner reads the reason. Continue?",
        icon="block",
        form=WithReason,
        fits=lambda domain: domain.status != DomainStatus.SUSPENDED,
        danger=True,
    )
    def suspend(self, request: HttpRequest, domain: Domain, data: dict[str, Any]) -> str:
        """Stop a domain from sending."""
        domain_status.suspend(
            domain, data["reason"], timezone.now(), audit.actor_of(request), audit.address_of(request)
        )
        return f"{domain} is suspended."

    @confirmed(
        "Reinstate",
        question="{} will be checked again and may send when its record is found. Continue?",
        icon="undo",
        fits=lambda domain: domain.status == DomainStatus.SUSPENDED,
    )
    def reinstate(self, request: HttpRequest, domain: Domain, data: dict[str, Any]) -> str:
        """Let a suspended domain back."""
        domain_status.reinstate(domain, timezone.now(), audit.actor_of(request), audit.address_of(request))
        return f"{domain} is reinstated; its record is looked for now."

    @column("status", ordering="status", label=STATUS_LABELS)
    def state(self, domain: Domain) -> str:
        """Whether it may send."""
        return str(domain.status)


@admin.register(DkimKey)
class DkimKeyAdmin(Facts):
    """Signing keys: the public half."""

    secret = ("private_key",)
    list_display = (
        "id",
        Link("domain", Domain, "domain"),
        "selector",
        "algorithm",
        "status",
        "is_current",
        "retires_at",
        "created_at",
    )
    list_filter = ("state", "algorithm")
    search_fields = ("domain__domain", "selector")
    search_help_text = "Domain or selector"

    @column("state", ordering="state", label=KEY_LABELS)
    def status(self, key: DkimKey) -> str:
        """Whether it signs, and whether its record must be in DNS."""
        return str(key.state)


@admin.register(Event)
class EventAdmin(Happened):
    """The event log."""

    ids = ("pk", "subject_id")
    words = ("kind",)
    list_display = ("when", "kind", PROJECT, "subject", "payload")
    list_display_links = ("when", "kind")
    search_help_text = "Id or UUID of an event or its subject, or an exact kind"

    @column("subject")
    def subject(self, event: Event) -> str:
        """What it is about."""
        return f"{event.subject_kind} {event.subject_id}"


@admin.register(EventOutbox)
class EventOutboxAdmin(Facts):
    """Events that the sequencer has not taken yet: more than a few, and run_webhooks is not running."""

    list_display = ("event_id",)
    ordering = ("event_id",)


@admin.register(FeedPosition)
class FeedPositionAdmin(Facts):
    """Events in commit order."""

    list_display = ("position", "event_id")
    ordering = ("-position",)
