"""What a key or a person may do in a project: the contract's thirteen scopes, and ours."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """One thing that may be done."""

    PROJECT_READ = "project.read"
    PROJECT_WRITE = "project.write"
    SENDS_READ = "sends.read"
    SENDS_SEND = "sends.send"
    DOMAINS_READ = "domains.read"
    DOMAINS_WRITE = "domains.write"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_WRITE = "webhooks.write"
    API_KEYS_READ = "api_keys.read"
    API_KEYS_WRITE = "api_keys.write"
    SUPPRESSIONS_READ = "suppressions.read"
    SUPPRESSIONS_WRITE = "suppressions.write"
    ANALYTICS_READ = "analytics.read"
    INBOUND_READ = "inbound.read"  # ours, as the next
    INBOUND_WRITE = "inbound.write"


SCOPES: tuple[Scope, ...] = tuple(Scope)

# What staff may do in a project without belonging to it: look, as the contract lets them in the system project. They
# may not read keys and webhook secrets, change anything or send; for that a project makes them a member.
STAFF_SCOPES = frozenset(
    {
        Scope.PROJECT_READ,
        Scope.SENDS_READ,
        Scope.DOMAINS_READ,
        Scope.SUPPRESSIONS_READ,
        Scope.ANALYTICS_READ,
        Scope.INBOUND_READ,
    }
)


def by_method(**scopes: Scope) -> Mapping[str, Scope]:
    """What an API view needs for each of its methods: by_method(GET=Scope.SENDS_READ)."""
    return MappingProxyType(scopes)


def sort_scopes(scopes: Iterable[str]) -> list[str]:
    """Each valid scope once, in the contract's order; a word that is no scope means nothing and is left out."""
    wanted = set(scopes)
    return [scope.value for scope in SCOPES if scope in wanted]
