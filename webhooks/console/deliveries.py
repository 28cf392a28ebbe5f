"""What a webhook was told: its page with deliveries and replays, one delivery with its tries, and telling it again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.page import Place, project_page, render_place
from projects.event_registry import kinds_for
from projects.events import EventKind
from projects.scopes import Scope
from relay_project.db.ids import id_time
from relay_project.web.errors import ApiError, Violations
from relay_project.web.fields import parse_integer
from webhooks.again import replay, send_again, send_test, stop_replay
from webhooks.console.forms import ReplayForm, TestForm
from webhooks.console.webhooks import webhook_or_404
from webhooks.models import DeliveryKind, DeliveryStatus, Webhook, WebhookDelivery
from webhooks.objects import to_come
from webhooks.subscriptions import DeliveryFilter, deliveries_of, headers_of

PAGE = 25  # deliveries a page
REPLAYS = 5  # shown
AWAITED_FOR = timedelta(minutes=2)  # a delivery is looked for, then its page rests
STATES = [("", "All"), *DeliveryStatus.choices]
MAX_SECONDS = 253_402_300_799  # the last of the year 9999
KINDS = {DeliveryKind.TEST.value: "test", DeliveryKind.REPLAY.value: "again"}


@require_safe
@project_page(Scope.WEBHOOKS_READ)
def one_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """How it is, and what it was told, the newest first."""
    webhook = webhook_or_404(place, webhook_id)
    status, event = _chosen(request, "status", DeliveryStatus.values), _chosen(request, "event", webhook_kinds())
    found = deliveries_of(place.project, datetime.now(UTC), DeliveryFilter(webhook.pk, status, event))
    before = parse_integer(request.GET.get("before_id", ""))
    if before is not None:
        found = found.filter(pk__lt=before)
    rows = list(found.defer("request_body", "tries")[: PAGE + 1])
    context = {
        "webhook": webhook,
        "held_until": to_come(webhook.held_until),
        "former_until": to_come(webhook.previous_secret_until),
        "headers": list(headers_of(webhook)),
        "rows": [{"delivery": row, "kind": KINDS.get(row.kind, "")} for row in rows[:PAGE]],
        "next_before_id": rows[PAGE - 1].pk if len(rows) > PAGE else None,
        "states": STATES,
        "kinds": sorted(webhook.events),
        "all_kinds": len(kinds_for(place.project.is_system)),
        "status": status or "",
        "event": event or "",
        "is_filtered": bool(status or event or before),
        "replays": [_replay_row(row) for row in webhook.replays.order_by("-id")[:REPLAYS]],
        "test": TestForm(is_system=place.project.is_system),
        "replay": ReplayForm(begin=_missed_since(request)),
        "has_missed": _missed_since(request) is not None,
    }
    return render_place(
        request, place, "webhooks/webhook.html", context, section="webhooks", fragment="webhooks/_delivery_rows.html"
    )


@require_safe
@project_page(Scope.WEBHOOKS_READ)
def one_delivery(request: HttpRequest, place: Place, delivery_id: int) -> HttpResponse:
    """What was sent, and each answer."""
    delivery = _delivery_or_404(place, delivery_id)
    webhook = Webhook.objects.filter(pk=delivery.webhook_id).only("id", "url", "is_enabled").first()
    context = {
        "delivery": delivery,
        "kind": DeliveryKind(delivery.kind).label,
        "webhook": webhook,
        "is_awaited": webhook is not None and _is_awaited(delivery, webhook, datetime.now(UTC)),
        "has_longer_answer": _has_longer_answer(delivery),
        "tries": [{**one, "at": _moment(one.get("at"))} for one in reversed(delivery.tries)],
        "body": _pretty(delivery.request_body),
    }
    return render_place(request, place, "webhooks/delivery.html", context, section="webhooks")


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def test_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """Send a test; the page of the delivery shows what is answered."""
    webhook = webhook_or_404(place, webhook_id)
    form = TestForm(request.POST, is_system=place.project.is_system)
    kind = form.cleaned_data["event"] if form.is_valid() else ""
    made = send_test(webhook, place.caller, EventKind(kind) if kind else None)
    messages.success(request, "The test is sent. The answer shows here in a moment.")
    return redirect("console-webhook-delivery", place.project.pk, made.pk)


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def retry_delivery(request: HttpRequest, place: Place, delivery_id: int) -> HttpResponse:
    """Send it again."""
    delivery = _delivery_or_404(place, delivery_id)
    try:
        made = send_again(delivery, place.caller)
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("console-webhook-delivery", place.project.pk, delivery.pk)
    messages.success(request, "It is sent again. The answer shows here in a moment.")
    return redirect("console-webhook-delivery", place.project.pk, made.pk)


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def replay_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """Tell a range of time, or what failed, again."""
    webhook = webhook_or_404(place, webhook_id)
    form = ReplayForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Write times as 2026-11-22 09:30, in UTC.")
        return redirect("console-webhook", place.project.pk, webhook.pk)
    values = form.cleaned_data
    try:
        replay(webhook, values["begin"], values["end"], only_failed=bool(values["only_failed"]), caller=place.caller)
        messages.success(request, "The replay has begun. Its deliveries show below as they are made.")
    except Violations as refusal:
        messages.error(request, refusal.violations[0].message)
    except ApiError as refusal:
        messages.error(request, refusal.message)
    return redirect("console-webhook", place.project.pk, webhook.pk)


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def stop_webhook_replay(request: HttpRequest, place: Place, webhook_id: int, replay_id: int) -> HttpResponse:
    """Have a replay make no more deliveries."""
    webhook = webhook_or_404(place, webhook_id)
    order = webhook.replays.filter(pk=replay_id).first()
    if order is None:
        raise Http404
    stop_replay(order, place.caller)
    messages.success(request, "The replay is stopped. What it made is still told.")
    return redirect("console-webhook", place.project.pk, webhook.pk)


def webhook_kinds() -> list[str]:
    """The names of events that a list may be asked for."""
    return [*(kind.value for kind in EventKind), "test"]


def _chosen(request: HttpRequest, name: str, known: list[str]) -> str | None:
    value = request.GET.get(name, "")
    return value if value in known else None


def _delivery_or_404(place: Place, delivery_id: int) -> WebhookDelivery:
    try:
        return entity(WebhookDelivery.objects.all(), place.project, delivery_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


def _is_awaited(delivery: WebhookDelivery, webhook: Webhook, now: datetime) -> bool:
    """Whether its first answer comes at any moment, so that the page looks for it."""
    is_called = webhook.is_enabled or delivery.kind == DeliveryKind.TEST
    is_new = now - id_time(delivery.pk) < AWAITED_FOR
    return is_called and is_new and delivery.status == DeliveryStatus.PENDING and not delivery.try_count


def _has_longer_answer(delivery: WebhookDelivery) -> bool:
    """Whether more was answered than the row of the last try says."""
    last = delivery.tries[-1].get("text") if delivery.tries else None
    return bool(delivery.response) and delivery.response != last


def _replay_row(row: Any) -> dict[str, Any]:
    reached = min(row.next_id, row.ends_id)
    return {
        "replay": row,
        "begin": id_time(row.begins_id),
        "end": id_time(row.ends_id),
        "reached": id_time(reached),
        "is_stopped": row.finished_at is not None and reached < row.ends_id,
    }


def _missed_since(request: HttpRequest) -> datetime | None:
    """Since when it was told nothing, as enabling it says."""
    seconds = parse_integer(request.GET.get("missed", ""))
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds <= MAX_SECONDS else None


def _moment(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


def _pretty(body: str) -> str:
    """The JSON as people read it."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return body
