"""What forms of the console share: refusals of the rules shown at the field they name, and scopes as check boxes."""

from django import forms

from projects.roles import Role, scopes_of
from projects.scopes import SCOPES, Scope
from relay_project.web.errors import ApiError, Violations

SCOPE_HELP = {
    Scope.PROJECT_READ: "See the project and its members",
    Scope.PROJECT_WRITE: "Rename it, add and remove members",
    Scope.SENDS_READ: "See sends and their content",
    Scope.SENDS_SEND: "Send mail",
    Scope.DOMAINS_READ: "See domains",
    Scope.DOMAINS_WRITE: "Add, verify and delete domains",
    Scope.WEBHOOKS_READ: "See webhooks and mailboxes",
    Scope.WEBHOOKS_WRITE: "Change webhooks and mailboxes",
    Scope.API_KEYS_READ: "See API keys",
    Scope.API_KEYS_WRITE: "Make and change API keys",
    Scope.SUPPRESSIONS_READ: "See suppressed addresses",
    Scope.SUPPRESSIONS_WRITE: "Change suppressed addresses",
    Scope.ANALYTICS_READ: "See figures",
    Scope.INBOUND_READ: "See mail that came in, and where it goes",
    Scope.INBOUND_WRITE: "Say which mail is received, and where it goes",
}
# Roles that a button ticks.
PRESET_VALUES = [(role.capitalize(), " ".join(scopes_of(role))) for role in Role]


def show_refusal(form: forms.Form, refusal: ApiError, fields: dict[str, str] | None = None) -> None:
    """Put a rule's refusal beside the field it names; `fields` maps the API's property names to the form's."""
    if not isinstance(refusal, Violations):
        form.add_error(None, refusal.message)
        return
    for violation in refusal.violations:
        name = violation.property.partition("[")[0]
        name = (fields or {}).get(name, name)
        form.add_error(name if name in form.fields else None, violation.message)


def scope_rows(chosen: list[str], allowed: frozenset[str]) -> list[dict[str, object]]:
    """Every scope as a check box; those that the person cannot give are not offered."""
    return [
        {"value": scope.value, "help": SCOPE_HELP[scope], "is_checked": scope.value in chosen}
        for scope in SCOPES
        if scope in allowed or scope.value in chosen
    ]
