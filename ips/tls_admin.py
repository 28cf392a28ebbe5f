"""Staff admin: what TLS receiving domains ask for, and what staff decide instead."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import audit
from ips.models import MtaStsPolicy, TlsOverride, TlsRequirement
from ips.tls_policies import ANY_DOMAIN, read_domain, remove_override, set_override
from relay_project.web.staff import Confirmation, Facts, WithReason, asked_above_list, column, confirmed

REQUIREMENT_COLOURS = {"none": "danger", "opportunistic": "info", "encrypted": "success", "verified": "success"}


class Requirement(Confirmation):
    """How much TLS, and why."""

    requirement = forms.ChoiceField(
        choices=TlsRequirement.choices, initial=TlsRequirement.VERIFIED, widget=UnfoldAdminSelectWidget()
    )
    reason = WithReason.base_fields["reason"]


class NewOverride(Requirement):
    """For which domain."""

    field_order = ("domain", "requirement", "reason")
    domain = forms.CharField(
        max_length=253,
        widget=UnfoldAdminTextInputWidget(),
        help_text="A recipient domain, or * for all that publish no policy of their own.",
    )

    def clean_domain(self) -> str:
        """In its one spelling."""
        try:
            return read_domain(self.cleaned_data["domain"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


@admin.register(TlsOverride)
class TlsOverrideAdmin(Facts):
    """Decisions of staff about TLS, by recipient domain."""

    list_display = ("domain", "demand", "reason", "changed_at")
    search_fields = ("domain",)
    search_help_text = "Domain"
    actions_list = ("decide",)
    actions_detail = ("decide_anew", "remove")

    @column("requirement", label=REQUIREMENT_COLOURS)
    def demand(self, override: TlsOverride) -> str:
        """The least that mail to the domain gets."""
        return override.requirement

    @asked_above_list(
        "Decide for a domain",
        question="Which TLS shall mail to a domain have, whatever it publishes? Senders follow within a minute.",
        icon="add",
        form=NewOverride,
    )
    def decide(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Set the override of a domain, or change it."""
        return _set(request, data["domain"], data)

    @confirmed(
        "Change",
        question="Which TLS shall mail to {} have? Continue?",
        icon="edit",
        form=Requirement,
    )
    def decide_anew(self, request: HttpRequest, override: TlsOverride, data: dict[str, Any]) -> str:
        """Decide anew."""
        return _set(request, override.domain, data)

    @confirmed(
        "Remove",
        question="Mail to {} will go by what the domain publishes. Continue?",
        icon="delete",
        danger=True,
        removes=True,
    )
    def remove(self, request: HttpRequest, override: TlsOverride, data: dict[str, Any]) -> str:
        """Decide no more."""
        remove_override(override, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"The override for {override} is removed."


def _set(request: HttpRequest, domain: str, data: dict[str, Any]) -> str:
    override = set_override(
        domain,
        TlsRequirement(data["requirement"]),
        reason=data["reason"],
        actor=audit.actor_of(request),
        now=timezone.now(),
        address=audit.address_of(request),
    )
    whose = "domains without a policy" if override.domain == ANY_DOMAIN else override.domain
    return f"Mail to {whose}: TLS {override.requirement}."


@admin.register(MtaStsPolicy)
class MtaStsPolicyAdmin(Facts):
    """Policies of receiving domains, as last fetched."""

    list_display = ("domain", "standing", "patterns", "fetched_at", "expires_at", "error")
    list_filter = ("mode",)
    search_fields = ("domain",)
    search_help_text = "Domain"

    @column(
        "mode",
        label={"enforce": "success", "testing": "info", "none": "warning", "expired": "warning", "not had": "danger"},
    )
    def standing(self, policy: MtaStsPolicy) -> str:
        """What holds now."""
        if policy.expires_at is None:
            return "not had"
        return policy.mode if policy.expires_at > timezone.now() else "expired"

    @column("MX hosts")
    def patterns(self, policy: MtaStsPolicy) -> str:
        """Which hosts it allows."""
        return ", ".join(policy.mx)
