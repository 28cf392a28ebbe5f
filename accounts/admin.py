"""Staff admin: people, how they sign in, the audit log."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from accounts import audit, staff
from accounts.models import AuditEntry, Identity, SignInLink, User
from relay_project.web.staff import Facts, Link, WithReason, column, confirmed

admin.site.unregister(Group)  # staff may do all of it, nobody else anything (accounts.models.User)


@admin.register(User)
class UserAdmin(Facts):
    """People; granting and revoking staff."""

    secret = ("password",)
    list_display = ("id", "name", "email", "login", "is_staff", "is_active", "last_login", "created_at")
    list_display_links = ("id", "name")
    list_filter = ("is_staff", "is_active")
    search_fields = ("name", "email", "login")
    search_help_text = "Name, e-mail address or login"
    actions_detail = ("grant_staff", "revoke_staff")

    @confirmed(
        "Make staff",
        question="{} will see every project and may use this admin. Continue?",
        icon="shield_person",
        form=WithReason,
        fits=lambda user: user.is_active and not user.is_staff,
    )
    def grant_staff(self, request: HttpRequest, user: User, data: dict[str, Any]) -> str:
        """Make a person staff."""
        staff.grant(user, actor=audit.actor_of(request), address=audit.address_of(request), reason=data["reason"])
        return f"{user} is staff now."

    @confirmed(
        "Revoke staff",
        question="{} will lose the staff admin with the next click. Continue?",
        icon="remove_moderator",
        form=WithReason,
        fits=lambda user: user.is_staff,
        danger=True,
    )
    def revoke_staff(self, request: HttpRequest, user: User, data: dict[str, Any]) -> str:
        """Take staff rights from a person; the last way in stays `manage.py grant_staff`."""
        if user == request.user:
            raise ValueError("Nobody revokes themselves: ask another member of staff.")
        staff.revoke(user, actor=audit.actor_of(request), address=audit.address_of(request), reason=data["reason"])
        return f"{user} is no longer staff."


@admin.register(Identity)
class IdentityAdmin(Facts):
    """OIDC identities: (issuer, subject)."""

    list_display = ("id", Link("user", User, "email"), "issuer", "subject", "last_seen_at")
    search_fields = ("subject", "issuer")
    search_help_text = "Subject or issuer"


@admin.register(SignInLink)
class SignInLinkAdmin(Facts):
    """One-time links: when, for whom, used or not. Never the link."""

    secret = ("token_hash",)
    list_display = ("id", Link("user", User, "email"), "created_at", "expires_at", "used_at")


@admin.register(AuditEntry)
class AuditEntryAdmin(Facts):
    """What staff did and what bears on security."""

    list_display = ("at", "action", "actor", "subject", "project_id", "address", "detail")
    list_display_links = ("at", "action")
    search_fields = ("=action", "=actor_label", "=subject_kind")
    search_help_text = "Exact action, actor or kind of subject"
    ordering = ("-id",)

    @column("actor")
    def actor(self, entry: AuditEntry) -> str:
        """Who."""
        return entry.actor_label or "–"

    @column("subject")
    def subject(self, entry: AuditEntry) -> str:
        """Of what."""
        return f"{entry.subject_kind} {entry.subject_id}" if entry.subject_kind else "–"
