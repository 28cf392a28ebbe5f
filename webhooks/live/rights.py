"""Which events somebody may see: those of things that they may read."""

from collections.abc import Collection

from projects.scopes import Scope

# The first word of a kind → the scope that reads such things; the others are about the project.
SCOPES_OF_KINDS = {
    "send": Scope.SENDS_READ,
    "recipient": Scope.SENDS_READ,
    "domain": Scope.DOMAINS_READ,
    "suppression": Scope.SUPPRESSIONS_READ,
    "inbound": Scope.INBOUND_READ,
    "api_key": Scope.API_KEYS_READ,
    "webhook": Scope.WEBHOOKS_READ,
    "mailbox": Scope.WEBHOOKS_READ,
}
READING = frozenset({*SCOPES_OF_KINDS.values(), Scope.PROJECT_READ})  # any of them opens a stream


def scope_of(kind: str) -> Scope:
    """The scope that a kind of event wants."""
    return SCOPES_OF_KINDS.get(kind.partition(".")[0], Scope.PROJECT_READ)


def may_see(kind: str, scopes: Collection[str]) -> bool:
    """Whether somebody with these scopes is told of such events."""
    return scope_of(kind) in scopes
