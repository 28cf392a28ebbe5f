"""Stopping a webhook and letting it go on: by people, and by the engine where nothing is to be told there any more.

What waited for it when it stopped goes on waiting, for as long as deliveries are kept; what happens meanwhile is not
delivered, and can be told by a replay.
"""

from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from accounts import audit
from projects.access import Caller, record_by
from projects.events import EventKind, NewEvent, emit
from relay_project.web.errors import ApiError
from webhooks.models import DisabledReason, Webhook
from webhooks.notices import tell_of_disabled
from webhooks.write import NOW, notify

ENGINE = "run_webhooks"  # the actor of what nobody did by hand


def disable(webhook: Webhook, reason: DisabledReason, caller: Caller | None = None, **detail: Any) -> bool:
    """Tell it nothing from now on, with its event and an entry in the audit log; False when it was so already.

    Raises ApiError 404 when it is gone.
    """
    reason = DisabledReason(reason)
    with transaction.atomic():
        row = _locked(webhook)
        if not row.is_enabled:
            return False
        row.is_enabled, row.disabled_at, row.disabled_reason = False, timezone.now(), reason
        row.save(update_fields=["is_enabled", "disabled_at", "disabled_reason"])
        _record(row, "webhook.disabled", caller, reason=reason.value, **detail)
        told = {"id": row.pk, "url": row.url, "description": row.description}
        payload = {"webhook": told, "reason": reason.value}
        emit(NewEvent(row.project_id, EventKind.WEBHOOK_DISABLED, "webhook", row.pk, payload))
        tell_of_disabled(row, reason)
        with connection.cursor() as cursor:
            notify(cursor, [f"{NOW}{row.pk}"])
    return True


def enable(webhook: Webhook, caller: Caller | None = None) -> bool:
    """Tell it again, what waits first; False when it was enabled already. Raises ApiError 404 when it is gone."""
    with transaction.atomic():
        row = _locked(webhook)
        if row.is_enabled:
            return False
        row.is_enabled, row.disabled_at, row.disabled_reason = True, None, DisabledReason.NONE
        row.failing_since = row.held_until = None
        row.save(update_fields=["is_enabled", "disabled_at", "disabled_reason", "failing_since", "held_until"])
        _record(row, "webhook.enabled", caller)
        with connection.cursor() as cursor:
            notify(cursor, [f"{NOW}{row.pk}"])
    return True


def _record(row: Webhook, action: str, caller: Caller | None, **detail: Any) -> None:
    if caller is not None:
        record_by(caller, action, row, row.project, **detail)
    elif "reason" in detail:
        audit.record(action, actor=None, actor_label=ENGINE, subject=row, project_id=row.project_id, detail=detail)


def _locked(webhook: Webhook) -> Webhook:
    found = Webhook.objects.select_for_update(of=("self",)).select_related("project").filter(pk=webhook.pk).first()
    if found is None:
        raise ApiError(404, "Entity not found")
    return found
