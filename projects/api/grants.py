"""What a body says about rights: `scopes`, or a `role` that stands for some, and until when."""

from datetime import UTC, datetime

from projects.api.schemas import LAST_MOMENT
from projects.roles import Role, scopes_of
from projects.scopes import SCOPES
from relay_project.web.fields import BLANK, NOT_A_CHOICE, Fields

ONE_OF_THEM = "Give either role or scopes, not both."


def read_grant(fields: Fields, required: bool) -> list[str] | None:
    """The scopes that a body gives, by name or by role; None when it says nothing.

    Each unknown scope is named as `scopes[i]`; both fields at once are refused, since they could differ.
    """
    if "role" in fields and fields.data.get("scopes") is not None:
        fields.note("role", ONE_OF_THEM)
        return None
    role = fields.choice("role", list(Role))
    if "role" in fields:
        return scopes_of(Role(role)) if role is not None else None
    scopes = fields.texts("scopes", required=required)
    for index, scope in enumerate(scopes or []):
        if scope not in SCOPES:
            fields.note(f"scopes[{index}]", NOT_A_CHOICE)
    return scopes


def read_new_grant(fields: Fields) -> list[str]:
    """The same where something must be said, and may be an empty list: the scopes that replace a member's."""
    scopes = read_grant(fields, required=False)
    if scopes is None and not fields.violations:
        fields.note("scopes", BLANK)
    return scopes or []


def read_expiry(fields: Fields) -> datetime | None:
    """The field `expires_at`, ours: Unix seconds in the future; null is never."""
    seconds = fields.integer("expires_at")
    if seconds is None:
        return None
    if not datetime.now(UTC).timestamp() < seconds <= LAST_MOMENT:
        fields.note("expires_at", "This value should be a time in the future, in Unix seconds.")
        return None
    return datetime.fromtimestamp(seconds, UTC)
