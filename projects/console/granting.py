"""Choosing what a person may do: a role, or scopes one by one."""

from typing import Any

from django import forms

from projects.console.forms import scope_rows
from projects.roles import DESCRIPTIONS, ROLE_SCOPES, Role, role_of, scopes_of
from projects.scopes import SCOPES

CUSTOM = "custom"
PEOPLE = tuple(role for role in Role if role is not Role.SENDER)  # that one is for programs


class GrantForm(forms.Form):
    """A role, or the scopes that are ticked."""

    role = forms.ChoiceField(
        choices=[*((role.value, role.value) for role in PEOPLE), (CUSTOM, CUSTOM)],
        error_messages={"required": "Choose a role.", "invalid_choice": "Choose a role."},
    )
    scopes = forms.MultipleChoiceField(required=False, choices=[(scope.value, scope.value) for scope in SCOPES])

    def clean(self) -> dict[str, Any]:
        """Somebody's own set has at least one scope."""
        data = super().clean() or {}
        if data.get("role") == CUSTOM and not data.get("scopes") and "scopes" not in self.errors:
            self.add_error("scopes", "Choose at least one scope.")
        return data

    def granted(self) -> list[str]:
        """The scopes of a form that is valid."""
        role: str = self.cleaned_data["role"]
        return list(self.cleaned_data["scopes"]) if role == CUSTOM else scopes_of(Role(role))


def grant_initial(scopes: list[str]) -> dict[str, object]:
    """What a form begins with for somebody who has these scopes."""
    role = role_of(scopes)
    return {"role": role if role in PEOPLE else CUSTOM, "scopes": scopes}


def grant_context(form: GrantForm, allowed: frozenset[str]) -> dict[str, object]:
    """For `console/_grant.html`: the roles that this person can give, and the scopes."""
    chosen = form["role"].value()
    roles = [
        {"value": role.value, "name": role.capitalize(), "help": DESCRIPTIONS[role], "is_chosen": chosen == role}
        for role in PEOPLE
        if ROLE_SCOPES[role] <= allowed or chosen == role
    ]
    return {
        "grant_form": form,
        "role_rows": roles,
        "is_custom": chosen == CUSTOM,
        "scope_rows": scope_rows(list(form["scopes"].value() or []), allowed),
    }
