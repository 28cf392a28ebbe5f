"""Staff admin: keys to the staff API."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts import audit
from accounts.models import StaffKey, User
from projects.staff_keys import NewStaffKey, create_staff_key, revoke_staff_key
from relay_project.web.staff import Confirmation, Facts, Link, asked_above_list, confirmed


class NewKeyForm(Confirmation):
    """What a new key is to be."""

    name = forms.CharField(
        max_length=255, widget=UnfoldAdminTextInputWidget(), help_text="What it is for: Terraform, a dashboard."
    )
    is_read_only = forms.BooleanField(required=False, label="Opens reading alone", widget=UnfoldBooleanWidget())
    allowed_ips = forms.CharField(
        required=False,
        max_length=1000,
        label="Allowed addresses",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Addresses or networks, separated by spaces; empty: from anywhere.",
    )


@admin.register(StaffKey)
class StaffKeyAdmin(Facts):
    """Keys with which scripts use the staff API as the person who made them."""

    secret = ("key_hash",)
    list_display = ("id", "name", Link("user", User, "email"), "is_read_only", "expires_at", "last_used_at")
    list_display_links = ("id", "name")
    search_fields = ("name", "user__email", "user__name")
    search_help_text = "Name of the key or the person"
    actions_list = ("new_key",)
    actions_detail = ("revoke",)

    @asked_above_list(
        "New key",
        question="A script that has the key may do everything that you may do over the staff API. It is shown once.",
        icon="key",
        form=NewKeyForm,
    )
    def new_key(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Make a key of whoever asks."""
        me = audit.actor_of(request)
        wanted = NewStaffKey(data["name"], data["is_read_only"], data["allowed_ips"].split())
        key, token = create_staff_key(me, wanted, actor=me, address=audit.address_of(request))
        return f"The key “{key}” is made. Copy it now, nobody can read it again: {token}"

    @confirmed(
        "Revoke",
        question="Every request with the key “{}” will be refused from now on. Continue?",
        icon="key_off",
        danger=True,
        removes=True,
    )
    def revoke(self, request: HttpRequest, key: StaffKey, data: dict[str, Any]) -> str:
        """It opens nothing any more."""
        revoke_staff_key(key, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"The key “{key}” is revoked."
