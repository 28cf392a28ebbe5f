"""Writing down what calls brought: one transaction for a batch, fenced by the number of tries.

A result that comes after another process made the same try changes nothing. What an endpoint's results mean for the
webhook itself (failing, disabled) is written in the same transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from relay_project.db.ids import by_day
from relay_project.web.errors import ApiError
from webhooks.deliver.lane import MAX_HOLD_SECONDS, Row
from webhooks.models import DeliveryKind, DeliveryStatus, DisabledReason, Webhook
from webhooks.switch import disable
from webhooks.verdict import Answer, holds_back, next_try

MAX_TRY_TEXT = 200  # characters of an answer in the list of tries

log = structlog.get_logger(__name__)

_SETTLE = """
WITH result AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
    id bigint, tries smallint, status text, due timestamptz, code smallint, answer text, entry jsonb)),
ended AS (
  DELETE FROM webhooks_webhookwaiting w USING result
   WHERE w.delivery_id = result.id AND w.try_count = result.tries AND result.due IS NULL RETURNING w.delivery_id),
later AS (
  UPDATE webhooks_webhookwaiting w SET try_count = result.tries + 1, due_at = result.due FROM result
   WHERE w.delivery_id = result.id AND w.try_count = result.tries AND result.due IS NOT NULL RETURNING w.delivery_id)
UPDATE webhooks_webhookdelivery d
   SET status = result.status, try_count = result.tries + 1, response_code = result.code, response = result.answer,
       next_try_at = result.due, tries = d.tries || result.entry
  FROM result, (SELECT delivery_id FROM ended UNION ALL SELECT delivery_id FROM later) fenced
 WHERE d.id = result.id AND fenced.delivery_id = result.id AND d.id >= %(low)s AND d.id <= %(high)s
"""
_WORKS = "UPDATE webhooks_webhook SET failing_since = NULL WHERE id = ANY(%s) AND failing_since IS NOT NULL"
_HOLDS = """
UPDATE webhooks_webhook hook SET held_until = greatest(hook.held_until, told.until)
  FROM unnest(%s::bigint[], %s::timestamptz[]) AS told (id, until) WHERE hook.id = told.id
"""
_FAILS = "UPDATE webhooks_webhook SET failing_since = %s WHERE id = ANY(%s) AND failing_since IS NULL"


@dataclass(frozen=True, slots=True)
class Result:
    """What a try of a row brought."""

    row: Row
    answer: Answer
    began_at: datetime

    def next_try(self, now: datetime) -> datetime | None:
        """When it is tried again; a test is tried once."""
        if self.row.kind == DeliveryKind.TEST:
            return None
        return next_try(self.answer, self.row.tries + 1, now, settings.WEBHOOK_RETRY_SCHEDULE)


def settle(results: Sequence[Result], now: datetime, failing: Iterable[int] = ()) -> None:
    """Write them; `failing` are webhooks that were marked as failing when they were looked at."""
    with transaction.atomic(), connection.cursor() as cursor:
        for same in by_day(results, lambda result: result.row.delivery_id):
            rows = orjson.dumps([_record(result, now) for result in same]).decode()
            low, high = same[0].row.delivery_id, same[-1].row.delivery_id
            cursor.execute(_SETTLE, {"rows": rows, "low": low, "high": high})
        _hold(cursor, results, now)
        _tell_webhooks(cursor, results, now, set(failing))


def _record(result: Result, now: datetime) -> dict[str, Any]:
    answer, due = result.answer, result.next_try(now)
    status = DeliveryStatus.DELIVERED if answer.is_success else DeliveryStatus.PENDING if due else DeliveryStatus.FAILED
    words = answer.words
    entry = {
        "at": int(result.began_at.timestamp()),
        "code": answer.code,
        "ms": answer.duration_ms,
        "text": words[:MAX_TRY_TEXT],
    }
    return {
        "id": result.row.delivery_id,
        "tries": result.row.tries,
        "status": status.value,
        "due": due,
        "code": answer.code,
        "answer": words,
        "entry": entry,
    }


def _hold(cursor: CursorWrapper, results: Iterable[Result], now: datetime) -> None:
    """Leave those alone that ask for it: whoever delivers to them next, in whatever process, knows it."""
    most = timedelta(seconds=MAX_HOLD_SECONDS)
    holds: dict[int, datetime] = {}
    for result in results:
        if asked := holds_back(result.answer, now):
            webhook_id, until = result.row.webhook_id, now + min(asked, most)
            holds[webhook_id] = max(until, holds.get(webhook_id, until))
    if holds:
        ids = sorted(holds)
        cursor.execute(_HOLDS, [ids, [holds[webhook_id] for webhook_id in ids]])


def _tell_webhooks(cursor: CursorWrapper, results: Sequence[Result], now: datetime, failing: set[int]) -> None:
    """Since when a webhook fails is known from the first failure after its last success. Tests say nothing of it."""
    told = [result for result in results if result.row.kind != DeliveryKind.TEST]
    works = {result.row.webhook_id for result in told if result.answer.is_success}
    fails = {result.row.webhook_id for result in told if not result.answer.is_success} - works
    if mended := works & failing:
        cursor.execute(_WORKS, [sorted(mended)])
    if broken := fails - failing:
        cursor.execute(_FAILS, [now, sorted(broken)])
    for webhook_id in {result.row.webhook_id for result in told if result.answer.is_gone}:
        _disable(webhook_id, DisabledReason.GONE)
    if fails & failing and settings.WEBHOOK_DISABLE_DAYS:
        since = now - timedelta(days=settings.WEBHOOK_DISABLE_DAYS)
        hopeless = Webhook.objects.filter(pk__in=fails & failing, is_enabled=True, failing_since__lt=since)
        for webhook_id in hopeless.values_list("pk", flat=True):
            _disable(webhook_id, DisabledReason.FAILING)


def _disable(webhook_id: int, reason: DisabledReason) -> None:
    try:
        if disable(Webhook(pk=webhook_id), reason):
            log.warning("webhooks.disabled", webhook=webhook_id, reason=reason.value)
    except ApiError:  # it was deleted meanwhile
        return
