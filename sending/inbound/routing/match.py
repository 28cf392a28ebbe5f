"""Which route an address fits: asked at RCPT for every address that is nobody else's, and again when its mail is read.

A domain counts while its project is there and may send from it, or from one above it: with the proof of owning it gone,
nothing is received any more. What a domain has is remembered for REMEMBERED_SECONDS; that it has nothing, too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from projects.models.domain import MAY_SEND
from relay_project.db.bound import bound_cursor
from relay_project.mail.address import InvalidDomain, normalise_domain
from sending.inbound.routing.patterns import fits, fold
from sending.models import RouteAction

REMEMBERED_SECONDS = 2.0
MAX_STEPS = 100  # routes that mail for one address may be passed on over, as far as anybody looks
MAX_REMEMBERED = 10_000  # domains; beyond that all are read again

_ROUTES = """
SELECT r.id, r.project_id, r.pattern, r.action, r.forward_to
  FROM sending_receivingdomain d
  JOIN projects_project p ON p.id = d.project_id AND p.archived_at IS NULL
  JOIN sending_inboundroute r ON r.domain_id = d.id AND r.is_enabled
 WHERE d.domain = %s
   AND EXISTS (SELECT FROM projects_domain o
                WHERE o.project_id = d.project_id AND o.domain = ANY(%s) AND o.status = ANY(%s))
 ORDER BY r.priority, r.id
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One route, as far as matching goes."""

    route_id: int
    project_id: int
    pattern: str
    action: RouteAction
    forward_to: tuple[str, ...] = ()  # of one that forwards


_rules: dict[str, tuple[float, tuple[Rule, ...]]] = {}


def receives(address: str) -> bool:
    """Whether mail to the address is taken for a project."""
    rule = rule_of(address)
    return rule is not None and rule.action is not RouteAction.REJECT


def rule_of(address: str) -> Rule | None:
    """The first rule that fits, by priority and then age."""
    return _first(address, _rules_of)


def comes_back(route_id: int, addresses: Sequence[str]) -> bool:
    """Whether mail for one of these would be passed on until it fits that route; as the database has it now."""
    waiting, seen = list(addresses), set[int]()
    while waiting and len(seen) < MAX_STEPS:
        rule = _first(waiting.pop(), _read_rules)
        if rule is None or rule.action is not RouteAction.FORWARD or rule.route_id in seen:
            continue
        if rule.route_id == route_id:
            return True
        seen.add(rule.route_id)
        waiting += rule.forward_to
    return False


def _first(address: str, rules_of: Callable[[str], Sequence[Rule]]) -> Rule | None:
    local, at, domain = address.rpartition("@")
    if not at or not local:
        return None
    try:
        domain = normalise_domain(domain)
    except InvalidDomain:
        return None
    local = fold(_unquoted(local))
    return next((rule for rule in rules_of(domain) if fits(rule.pattern, local)), None)


def is_all_routed(addresses: Sequence[str]) -> bool:
    """Whether every one of these is a project's, so that the mail is nothing to the installation itself."""
    return bool(addresses) and all(receives(address) for address in addresses)


def names_above(domain: str) -> list[str]:
    """The domain and those above it, down to two labels."""
    labels = domain.split(".")
    return [".".join(labels[place:]) for place in range(len(labels) - 1)]


def forget() -> None:
    """Ask the database again: after a change in this process, and between tests."""
    _rules.clear()


def _unquoted(local: str) -> str:
    """`"support"@…` is the same mailbox as `support@…` (RFC 5321 §4.1.2)."""
    return local[1:-1] if len(local) > 2 and local[0] == local[-1] == '"' else local


def _rules_of(domain: str) -> tuple[Rule, ...]:
    clock = time.monotonic()
    read_at, rules = _rules.get(domain, (-1e9, ()))
    if clock - read_at < REMEMBERED_SECONDS:
        return rules
    rules = _read_rules(domain)
    if len(_rules) >= MAX_REMEMBERED:
        _rules.clear()
    _rules[domain] = (clock, rules)
    return rules


def _read_rules(domain: str) -> tuple[Rule, ...]:
    with bound_cursor(prepared=True) as cursor:
        cursor.execute(_ROUTES, [domain, names_above(domain), [str(status) for status in MAY_SEND]])
        return tuple(
            Rule(route_id, project_id, pattern, RouteAction(action), tuple(forward_to or ()))
            for route_id, project_id, pattern, action, forward_to in cursor.fetchall()
        )
