"""What is known of receiving domains' TLS policies: MTA-STS as fetched (RFC 8461), and what staff decide instead.

Senders read everything once and then what changed (`read_changes`); whoever fetches a policy, a sender or
housekeeping, stores what came of it. A failed refresh never takes a policy away before it expires (RFC 8461 §5.1).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Q

from accounts import audit
from accounts.models import User
from ips.models import MtaStsPolicy, TlsOverride, TlsRequirement
from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.mta_sts import Mode, Policy
from relay_project.mail.text import clean

ANY_DOMAIN = "*"
REFRESH_AFTER = timedelta(
    days=1
)  # a policy may change without a new id being seen; RFC 8461 §3.3 asks for regular looks
FORGET_AFTER = timedelta(days=30)  # without mail: then it is neither refreshed nor kept past its end
OVERLAP = timedelta(minutes=1)  # transactions commit out of order: what changed is read again for this long
MAX_ERROR = 500  # characters, the column's width

_STORE = """
INSERT INTO ips_mtastspolicy (domain, policy_id, mode, mx, max_age, fetched_at, expires_at, error, used_at, updated_at)
VALUES (%(domain)s, %(policy_id)s, %(mode)s, %(mx)s, %(max_age)s, %(now)s, %(expires_at)s, '', %(now)s, %(now)s)
ON CONFLICT (domain) DO UPDATE SET policy_id = EXCLUDED.policy_id, mode = EXCLUDED.mode, mx = EXCLUDED.mx,
  max_age = EXCLUDED.max_age, fetched_at = EXCLUDED.fetched_at, expires_at = EXCLUDED.expires_at, error = '',
  failing_since = NULL, updated_at = EXCLUDED.updated_at
"""
_STORE_FAILURE = """
INSERT INTO ips_mtastspolicy (domain, policy_id, mode, mx, max_age, error, failing_since, used_at, updated_at)
VALUES (%(domain)s, '', '', '[]', 0, %(error)s, %(now)s, %(now)s, %(now)s)
ON CONFLICT (domain) DO UPDATE SET error = EXCLUDED.error,
  failing_since = COALESCE(ips_mtastspolicy.failing_since, EXCLUDED.failing_since), updated_at = EXCLUDED.updated_at
"""


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """A domain's policy with its end; without `policy` only the id is known to lead nowhere."""

    domain: str
    policy_id: str
    policy: Policy | None
    expires_at: datetime | None

    def valid(self, now: datetime) -> Policy | None:
        """The policy, as long as it has not expired."""
        return self.policy if self.expires_at is not None and self.expires_at > now else None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a sender has to learn; overrides always come whole."""

    policies: tuple[KnownPolicy, ...]
    overrides: dict[str, str]  # domain or `*` → requirement


# --- Policies ------------------------------------------------------------------------------------------------------


def read_changes(since: datetime | None) -> Changes:
    """Policies stored since a moment (None: all of them), and every override."""
    rows = MtaStsPolicy.objects.order_by()
    if since is not None:
        rows = rows.filter(updated_at__gt=since - OVERLAP)
    overrides = dict(TlsOverride.objects.order_by().values_list("domain", "requirement"))
    return Changes(tuple(map(known, rows.iterator(2_000))), overrides)


def known(row: MtaStsPolicy) -> KnownPolicy:
    """A row as a value."""
    policy = Policy(Mode(row.mode), tuple(row.mx), row.max_age) if row.mode else None
    return KnownPolicy(row.domain, row.policy_id, policy, row.expires_at)


def store(domain: str, policy_id: str, policy: Policy, now: datetime) -> KnownPolicy:
    """Keep a policy that was fetched just now."""
    found = KnownPolicy(domain, policy_id, policy, now + policy.lifetime)
    values = {
        "domain": domain,
        "policy_id": policy_id,
        "mode": policy.mode.value,
        "mx": json.dumps(policy.mx),
        "max_age": policy.max_age,
        "expires_at": found.expires_at,
        "now": now,
    }
    with connection.cursor() as cursor:
        cursor.execute(_STORE, values)
    return found


def store_failure(domain: str, error: str, now: datetime) -> None:
    """Note why a policy could not be fetched; one that is kept stays."""
    with connection.cursor() as cursor:
        cursor.execute(_STORE_FAILURE, {"domain": domain, "error": clean(error, MAX_ERROR), "now": now})


def mark_used(domains: Collection[str], now: datetime) -> int:
    """Mail goes to these domains today, so their policies are kept fresh; a row is written once a day at most."""
    return MtaStsPolicy.objects.filter(domain__in=domains, used_at__lt=now - timedelta(days=1)).update(used_at=now)


def due_for_refresh(now: datetime, limit: int) -> list[KnownPolicy]:
    """Policies of domains in use that were last fetched a day ago or longer, those that expire first at the head."""
    rows = MtaStsPolicy.objects.filter(
        fetched_at__lt=now - REFRESH_AFTER, used_at__gt=now - FORGET_AFTER, expires_at__gt=now
    ).order_by("expires_at")
    return [known(row) for row in rows[:limit]]


def forget(now: datetime) -> int:
    """Remove what has expired, or was never had, and no mail has asked for in a month."""
    over = Q(expires_at__lt=now) | Q(expires_at=None)
    return MtaStsPolicy.objects.filter(over, used_at__lt=now - FORGET_AFTER).delete()[0]


# --- Overrides -----------------------------------------------------------------------------------------------------


def read_domain(text: str) -> str:
    """A recipient domain as overrides name it, or `*`; raises ValueError with a sentence."""
    if text.strip() == ANY_DOMAIN:
        return ANY_DOMAIN
    try:
        return normalise_domain(text.strip())
    except InvalidDomain as error:
        raise ValueError(f"{text!r} is neither a domain nor *: {error}") from None


def set_override(
    domain: str,
    requirement: TlsRequirement,
    *,
    reason: str,
    actor: User | None,
    now: datetime,
    address: str | None = None,
) -> TlsOverride:
    """Decide what TLS must be for a domain, or with `*` for all that publish nothing; senders follow within a minute."""
    with transaction.atomic():
        values = {"requirement": requirement, "reason": reason, "changed_at": now}
        override, _ = TlsOverride.objects.update_or_create(domain=read_domain(domain), defaults=values)
        detail = {"domain": override.domain, "requirement": str(requirement), "reason": reason}
        audit.record("tls_override.set", actor=actor, subject=override, address=address, detail=detail)
    return override


def remove_override(override: TlsOverride, *, actor: User | None, address: str | None = None) -> None:
    """Go by what the domain publishes again."""
    with transaction.atomic():
        detail = {"domain": override.domain, "requirement": override.requirement}
        audit.record("tls_override.removed", actor=actor, subject=override, address=address, detail=detail)
        TlsOverride.objects.filter(pk=override.pk).delete()
