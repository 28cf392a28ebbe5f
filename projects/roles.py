"""Roles: names for sets of scopes that people and keys are usually given.

A role is nothing but its set: what is stored are the scopes, and whoever has exactly a role's scopes has that role. So a
set that changes with a release changes nobody's rights behind their back.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType

from projects.scopes import SCOPES, STAFF_SCOPES, Scope


class Role(StrEnum):
    """A usual set of scopes; its words are for people to choose by."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    SUPPORT = "support"
    VIEWER = "viewer"
    SENDER = "sender"


# Looking, without what may hold secrets, as the addresses of webhooks do.
_LOOKING = frozenset(STAFF_SCOPES)
_SUPPORT = _LOOKING | {Scope.SUPPRESSIONS_WRITE}
_DEVELOPER = _LOOKING | {
    Scope.SENDS_SEND,
    Scope.WEBHOOKS_READ,
    Scope.WEBHOOKS_WRITE,
    Scope.API_KEYS_READ,
    Scope.API_KEYS_WRITE,
}

ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.OWNER: frozenset(SCOPES),
        Role.ADMIN: frozenset(SCOPES) - {Scope.PROJECT_WRITE},
        Role.DEVELOPER: _DEVELOPER,
        Role.SUPPORT: _SUPPORT,
        Role.VIEWER: _LOOKING,
        Role.SENDER: frozenset({Scope.SENDS_SEND}),
    }
)
DESCRIPTIONS: Mapping[Role, str] = MappingProxyType(
    {
        Role.OWNER: "Everything, the project itself and its members included",
        Role.ADMIN: "Everything but the project's settings and its members",
        Role.DEVELOPER: "Send, API keys and webhooks; no changes to domains and suppressions",
        Role.SUPPORT: "See mail and figures, and change suppressed addresses",
        Role.VIEWER: "See mail, domains and figures; change nothing",
        Role.SENDER: "Send mail and nothing else; for programs",
    }
)


def scopes_of(role: Role) -> list[str]:
    """A role's scopes, in the contract's order."""
    return [scope.value for scope in SCOPES if scope in ROLE_SCOPES[role]]


def role_of(scopes: Collection[str]) -> Role | None:
    """The role whose scopes these are, exactly; None for a set of somebody's own."""
    given = frozenset(scopes)
    return next((role for role, own in ROLE_SCOPES.items() if own == given), None)


def role_objects() -> list[dict[str, object]]:
    """Every role as the API shows it."""
    return [{"name": role.value, "description": DESCRIPTIONS[role], "scopes": scopes_of(role)} for role in ROLE_SCOPES]
