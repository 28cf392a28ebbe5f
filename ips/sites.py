"""What staff order at receiving sites: pause and resume, limits, forgetting what was learned, trying again at once.

The rows are read by the senders within a second or two (sending.deliver.shaper). A site is a provider's name or a set of
MX hosts (relay_project.mail.mx); with a source IP an order holds for that one, without for all of them.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.models import User
from ips.limits import drop_empty
from ips.models import HeldSite, SiteLimit, SitePause, SourceIp
from queues.pause import Span
from relay_project.mail.mx import PROVIDERS
from relay_project.mail.rates import Limits
from relay_project.mail.text import clean

MAX_SITE = 253  # characters, the column's
MAX_REASON = 255
MAX_LIMIT = 1_000_000  # of anything an hour; the column ends at 2^31, and nobody sends that much from one address
# Senders look at held sites twice a second: a slot that passed longer ago is of a site on which nothing hangs any more, or
# of one at which nobody looks. Neither is held.
PASSED = timedelta(seconds=10)
NOTHING_LEARNED = {
    "learned_per_minute": None,
    "learned_connections": None,
    "learned_ceiling": None,
    "learned_reply": "",
    "learned_at": None,
    "raised_at": None,
    "back_off_seconds": None,
    "back_off_until": None,
}


def pause_site(
    site: str,
    *,
    source_ip: SourceIp | None = None,
    reason: str,
    actor: User | None,
    now: datetime,
    address: str | None = None,
    actor_label: str = "",
) -> bool:
    """Start no more mail to a site; False when it was paused already, whose reason then stays."""
    reason = clean(reason, MAX_REASON).strip()
    with transaction.atomic():
        row = _row_for(site, source_ip)
        if row.paused_at is not None:
            return False
        row.paused_at, row.pause_reason, row.changed_at = now, reason, now
        row.save()
        _record("site.paused", row, {"reason": reason}, actor, address, actor_label)
    return True


def resume_site(
    site: str,
    *,
    source_ip: SourceIp | None = None,
    actor: User | None,
    now: datetime,
    address: str | None = None,
    actor_label: str = "",
) -> bool:
    """Let mail go to a site again, as its limits allow; False when it was not paused."""
    with transaction.atomic():
        row = _locked(site, source_ip).exclude(paused_at=None).first()
        if row is None:
            return False
        _record("site.resumed", row, {"reason": row.pause_reason}, actor, address, actor_label)
        SitePause.objects.create(
            site=row.site, source_ip=source_ip, reason=row.pause_reason, began_at=row.paused_at or now, ended_at=now
        )
        row.paused_at, row.pause_reason, row.changed_at = None, "", now
        row.save()
        _look_again(site, now)
        drop_empty()
    return True


def set_limits(
    site: str,
    limits: Limits,
    *,
    source_ip: SourceIp | None = None,
    actor: User | None,
    now: datetime,
    address: str | None = None,
    actor_label: str = "",
) -> bool:
    """Let these limits hold, where they say nothing the more general ones; False when they did already.

    Raises ValueError when one is not from 1 to MAX_LIMIT.
    """
    wanted = asdict(limits)
    if any(value is not None and not 1 <= value <= MAX_LIMIT for value in wanted.values()):
        raise ValueError(f"A limit is a whole number from 1 to {MAX_LIMIT:,}; to let nothing go to a site, pause it.")
    with transaction.atomic():
        row = _row_for(site, source_ip)
        former = {name: getattr(row, name) for name in wanted}
        if former == wanted:
            drop_empty()
            return False
        for name, value in wanted.items():
            setattr(row, name, value)
        row.changed_at = now
        row.save()
        _record("site.limits_set", row, {"from": former, "to": wanted}, actor, address, actor_label)
        _look_again(site, now)
        drop_empty()
    return True


def forget_learned(
    site: str,
    *,
    source_ip: SourceIp | None = None,
    actor: User | None,
    now: datetime,
    address: str | None = None,
    actor_label: str = "",
) -> int:
    """Forget what a site taught one source IP, or all of them; returns how many lessons."""
    with transaction.atomic():
        rows = list(_lessons(site, source_ip))
        for row in rows:
            detail = {"per_minute": row.learned_per_minute, "reply": row.learned_reply}
            _record("site.lesson_forgotten", row, detail, actor, address, actor_label)
        SiteLimit.objects.filter(pk__in=[row.pk for row in rows]).update(**NOTHING_LEARNED, changed_at=now)
        _look_again(site, now)
        drop_empty()
    return len(rows)


def flush(
    site: str,
    *,
    source_ip: SourceIp | None = None,
    actor: User | None,
    now: datetime,
    address: str | None = None,
    actor_label: str = "",
) -> int:
    """End the pauses that a site's throttles led to, now; what was learned of its pace stays. Returns how many."""
    with transaction.atomic():
        rows = list(_lessons(site, source_ip).filter(back_off_until__gt=now))
        for row in rows:
            until = f"{row.back_off_until:%Y-%m-%d %H:%M:%S}"
            _record("site.flushed", row, {"was_left_alone_until": until}, actor, address, actor_label)
        SiteLimit.objects.filter(pk__in=[row.pk for row in rows]).update(back_off_until=now, changed_at=now)
        _look_again(site, now)
    return len(rows)


def held_now(now: datetime) -> Q:
    """Held sites whose next slot is still to come, or just came."""
    return Q(next_slot__gt=now - PASSED)


def known_sites() -> set[str]:
    """Every name under which something is known: providers, held sites, limits, pauses and lessons."""
    held = HeldSite.objects.values_list("site", flat=True).distinct()
    limited = SiteLimit.objects.values_list("site", flat=True).distinct()
    return {provider.name for provider in PROVIDERS}.union(held, limited)


def pauses_since(moment: datetime) -> dict[tuple[str, int | None], list[Span]]:
    """The pauses that were over after a moment, by (site, source IP; None: all of them)."""
    found: dict[tuple[str, int | None], list[Span]] = defaultdict(list)
    for pause in SitePause.objects.filter(ended_at__gt=moment):
        found[pause.site, pause.source_ip_id].append((pause.began_at, pause.ended_at))
    return found


def _row_for(site: str, source_ip: SourceIp | None) -> SiteLimit:
    """The row, locked; made where there is none."""
    name = clean(site, MAX_SITE).strip().lower()
    if not name:
        raise ValueError("Name a site: a provider such as google, or MX hosts.")
    SiteLimit.objects.bulk_create([SiteLimit(site=name, source_ip=source_ip)], ignore_conflicts=True)
    return _locked(name, source_ip).get()


def _locked(site: str, source_ip: SourceIp | None) -> QuerySet[SiteLimit]:
    return SiteLimit.objects.select_for_update(of=("self",)).filter(site=site.strip().lower(), source_ip=source_ip)


def _lessons(site: str, source_ip: SourceIp | None) -> QuerySet[SiteLimit]:
    ours = Q() if source_ip is None else Q(source_ip=source_ip)
    learned = SiteLimit.objects.select_for_update(of=("self",)).exclude(learned_at=None)
    return learned.filter(ours, site=site.strip().lower()).order_by("pk")


def _look_again(site: str, now: datetime) -> None:
    """What hangs on the site has its slot now; the senders look, and say anew what still holds it.

    Locked in the senders' order (sending.deliver.held).
    """
    held = HeldSite.objects.select_for_update(of=("self",)).filter(site=site.strip().lower(), next_slot__gt=now)
    ids = list(held.order_by("queue_id", Coalesce("source_ip_id", 0), "site").values_list("pk", flat=True))
    HeldSite.objects.filter(pk__in=ids).update(next_slot=now)


def _record(
    action: str, row: SiteLimit, detail: Mapping[str, object], actor: User | None, address: str | None, label: str
) -> None:
    where = {"site": row.site, "source_ip": row.source_ip.address if row.source_ip else None}
    audit.record(action, actor=actor, subject=row, address=address, detail={**where, **detail}, actor_label=label)
