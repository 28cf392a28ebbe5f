"""Which queue a source IP carries, and whether it is used at all. A sender follows within a second or two."""

from django.db import transaction

from accounts import audit
from accounts.models import User
from ips.models import SourceIp
from queues.models import Queue


def enable(source_ip: SourceIp, *, actor: User | None, address: str | None = None) -> bool:
    """Use an address again; False when it was in use."""
    return _set_enabled(source_ip, True, "source_ip.enabled", actor, address)


def disable(source_ip: SourceIp, *, actor: User | None, address: str | None = None) -> bool:
    """Start no more mail from an address; False when it was disabled. What waits for it moves to another."""
    return _set_enabled(source_ip, False, "source_ip.disabled", actor, address)


def move(source_ip: SourceIp, queue: Queue | None, *, actor: User | None, address: str | None = None) -> bool:
    """Let an address carry another queue, or none; False when it did already."""
    with transaction.atomic():
        locked = SourceIp.objects.select_for_update().get(pk=source_ip.pk)
        former = locked.queue
        if former == queue:
            return False
        locked.queue = queue
        locked.save(update_fields=["queue"])
        detail = {"from": former.name if former else None, "to": queue.name if queue else None}
        audit.record("source_ip.moved", actor=actor, subject=source_ip, address=address, detail=detail)
    source_ip.refresh_from_db()
    return True


def _set_enabled(source_ip: SourceIp, enabled: bool, action: str, actor: User | None, address: str | None) -> bool:
    with transaction.atomic():
        changed = SourceIp.objects.filter(pk=source_ip.pk, is_enabled=not enabled).update(is_enabled=enabled)
        if changed:
            audit.record(action, actor=actor, subject=source_ip, address=address, detail={"ip": source_ip.address})
    source_ip.refresh_from_db()
    return bool(changed)
