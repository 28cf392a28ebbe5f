"""Staff admin: who belongs to which project, who is invited, and secrets of keys that were rotated."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import audit
from accounts.models import User
from accounts.staff import NoSuchPerson, SeveralPeople, find_person
from projects.access import Caller
from projects.invitations import withdraw
from projects.members import add_member, remove_member
from projects.models import ApiKey, FormerSecret, Invitation, Membership, Notice, Project
from projects.roles import DESCRIPTIONS, Role, role_of, scopes_of
from projects.scopes import SCOPES
from relay_project.web.staff import Confirmation, Facts, Link, asked_above_list, column, confirmed

PROJECT = Link("project", Project)


class AddForm(Confirmation):
    """Whom to add, where, as what."""

    person = forms.CharField(
        max_length=320, widget=UnfoldAdminTextInputWidget(), help_text="Login, e-mail address or id of the person."
    )
    project = forms.IntegerField(
        min_value=1, max_value=2**63 - 1, widget=UnfoldAdminTextInputWidget(), help_text="Id of the project."
    )
    role = forms.ChoiceField(
        choices=[(role.value, f"{role.capitalize()}: {DESCRIPTIONS[role]}") for role in Role],
        widget=UnfoldAdminSelectWidget(),
    )


def staff_caller(request: HttpRequest, project: Project) -> Caller:
    """Staff who act through the admin: they may give every scope, and the audit log names them."""
    return Caller(frozenset(SCOPES), project, user=audit.actor_of(request), address=audit.address_of(request) or "")


@admin.register(Membership)
class MembershipAdmin(Facts):
    """Who belongs to which project, with which scopes."""

    list_display = ("id", PROJECT, Link("user", User, "email"), "role", "scopes", "created_at")
    search_fields = ("user__email", "user__name", "project__name")
    search_help_text = "Person or project"
    actions_list = ("add_person",)
    actions_detail = ("remove",)

    @column("role")
    def role(self, membership: Membership) -> str:
        """The role whose scopes these are."""
        return role_of(membership.scopes) or "custom"

    @asked_above_list(
        "Add a member",
        question="The person belongs to the project at once, and its people see that you added them.",
        icon="person_add",
        form=AddForm,
    )
    def add_person(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Add somebody to a project, say to one that has no owner left."""
        project = Project.objects.filter(pk=data["project"]).first()
        if project is None:
            raise ValueError("No project has this id.")
        try:
            person = find_person(data["person"])
        except NoSuchPerson:
            raise ValueError("Nobody has this login, address or id.") from None
        except SeveralPeople:
            raise ValueError("Several people have this address; say the id.") from None
        add_member(project, person.pk, scopes_of(Role(data["role"])), staff_caller(request, project))
        return f"{person} is a member of {project} now."

    @confirmed(
        "Remove",
        question="{} ends with the person's next click. Continue?",
        icon="person_remove",
        danger=True,
        removes=True,
    )
    def remove(self, request: HttpRequest, membership: Membership, data: dict[str, Any]) -> str:
        """Take somebody out of a project."""
        remove_member(membership, staff_caller(request, membership.project))
        return f"{membership.user} is no longer a member of {membership.project}."


@admin.register(Notice)
class NoticeAdmin(Facts):
    """What people were told by mail, and what waits to be."""

    list_display = ("id", "subject", PROJECT, "created_at", "sent_at")
    list_display_links = ("id", "subject")
    search_fields = ("subject", "project__name")
    search_help_text = "Subject or project"


@admin.register(Invitation)
class InvitationAdmin(Facts):
    """Who is invited into which project. Never the link, nor its hash."""

    secret = ("token_hash",)
    list_display = ("id", "email", PROJECT, "invited_by_label", "sent_at", "expires_at", "accepted_at")
    list_display_links = ("id", "email")
    search_fields = ("email", "project__name")
    search_help_text = "Address or project"
    actions_detail = ("withdraw",)

    @confirmed(
        "Withdraw",
        question="The link of the {} will open nothing any more. Continue?",
        icon="unsubscribe",
        fits=lambda invitation: invitation.accepted_at is None and invitation.expires_at > timezone.now(),
        danger=True,
        removes=True,
    )
    def withdraw(self, request: HttpRequest, invitation: Invitation, data: dict[str, Any]) -> str:
        """Take an invitation back, say one that annoys its recipient."""
        withdraw(invitation, staff_caller(request, invitation.project))
        return f"The {invitation} is withdrawn."


@admin.register(FormerSecret)
class FormerSecretAdmin(Facts):
    """Keys that were rotated, and until when their former secret works. Never the secret, nor its hash."""

    secret = ("key_hash",)
    list_display = ("id", Link("key", ApiKey), "valid_until")
