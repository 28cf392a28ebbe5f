"""Staff admin: projects, members, API keys, domains and their keys, the event log."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import audit
from projects import domain_status
from projects.api_keys import KeyChange, update_key
from projects.member_admin import FormerSecretAdmin, InvitationAdmin, MembershipAdmin
from projects.models import ApiKey, DkimKey, Domain, DomainStatus, Event, EventOutbox, FeedPosition, Project
from relay_project.web.staff import Facts, Happened, Link, WithReason, column, confirmed

__all__ = ["FormerSecretAdmin", "InvitationAdmin", "MembershipAdmin"]  # registered there

PROJECT = Link("project", Project)
STATUS_LABELS = {"active": "success", "pending": "info", "warning": "warning", "suspended": "danger"}


@admin.register(Project)
class ProjectAdmin(Facts):
    """Tenants."""

    list_display = ("id", "name", "send_type", "is_system", "created_at")
    list_display_links = ("id", "name")
    list_filter = ("send_type", "is_system")
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

    @confirmed(
        "Disable",
        question="Every request with the key “{}” will be refused from now on. Continue?",
        icon="key_off",
        form=WithReason,
        fits=lambda key: key.is_enabled,
        danger=True,
    )
    def disable(self, request: HttpRequest, key: ApiKey, data: dict[str, Any]) -> str:
        """Refuse a key, say because it leaked; the project's owner may enable it again."""
        with transaction.atomic():
            update_key(key, KeyChange(is_enabled=False))
            audit.record(
                "api_key.disabled",
                actor=audit.actor_of(request),
                subject=key,
                project_id=key.project_id,
                address=audit.address_of(request),
                detail={"reason": data["reason"]},
            )
        return f"{key} is disabled."


@admin.register(Domain)
class DomainAdmin(Facts):
    """Sending domains and their checks."""

    list_display = ("id", "domain", PROJECT, "state", "dkim_checked_at", "failed_checks", "created_at")
    list_display_links = ("id", "domain")
    list_filter = ("status",)
    search_fields = ("domain",)
    search_help_text = "Domain"
    actions_detail = ("suspend", "reinstate")

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
    list_display = ("id", Link("domain", Domain, "domain"), "selector", "is_current", "created_at")
    search_fields = ("domain__domain", "selector")
    search_help_text = "Domain or selector"


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
