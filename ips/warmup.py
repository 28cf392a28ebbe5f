"""Warm-up: a new source IP may send so much a day by a plan, until receivers know it.

What is over the day's ceiling goes by other IPs of the queue, or waits for tomorrow (UTC). Retries are not held back:
their receivers asked to see the same address again, and they are no more than what the ceiling let through before.
"""

from collections.abc import Sequence
from datetime import date, datetime

from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.models import User
from ips.models import SourceIp


def ceiling(began: date | None, today: date, plan: Sequence[int]) -> int | None:
    """Messages that an IP may begin on a day; None when it is warm: not in warm-up, or its plan is over."""
    if began is None:
        return None
    day = max((today - began).days, 0)
    return plan[day] if day < len(plan) else None


def start(
    source_ip: SourceIp, *, actor: User | None, now: datetime, address: str | None = None, actor_label: str = ""
) -> bool:
    """Begin a warm-up today; False when one is under way, which goes on."""
    if ceiling(source_ip.warmup_started_on, now.date(), settings.WARMUP_PLAN) is not None:
        return False
    return _set(source_ip, now.date(), "source_ip.warmup_started", actor, address, actor_label)


def stop(source_ip: SourceIp, *, actor: User | None, address: str | None = None, actor_label: str = "") -> bool:
    """End a warm-up: the IP counts as warm at once; False when there was none."""
    if source_ip.warmup_started_on is None:
        return False
    return _set(source_ip, None, "source_ip.warmup_stopped", actor, address, actor_label)


def _set(
    source_ip: SourceIp, began: date | None, action: str, actor: User | None, address: str | None, label: str
) -> bool:
    with transaction.atomic():
        SourceIp.objects.filter(pk=source_ip.pk).update(warmup_started_on=began)
        detail = {"ip": source_ip.address}
        audit.record(action, actor=actor, subject=source_ip, address=address, detail=detail, actor_label=label)
    source_ip.refresh_from_db()
    return True
