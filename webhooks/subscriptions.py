"""A project's webhooks: who wants to be told of what. The secret that signs is shown once, when it is made (lesson S10)."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from projects.access import Caller, record_by
from projects.event_registry import kinds_for
from projects.models import Project
from relay_project.db.ids import id_floor
from relay_project.web.errors import ApiError, Violation, Violations
from relay_project.web.fields import BLANK, NOT_A_CHOICE
from webhooks.models import Webhook, WebhookDelivery
from webhooks.url import check_url

SECRET_BYTES = 16  # 128 bits, 32 hexadecimal characters, as the contract
MAX_DESCRIPTION = 1024  # characters, the column's width

TOO_MANY = "You have reached the maximum number of webhooks for this project."


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What an update says; None leaves a field as it is."""

    url: str | None = None
    events: Sequence[str] | None = None
    description: str | None = None
    is_enabled: bool | None = None
    clears_description: bool = False


def webhooks_of(project: Project) -> QuerySet[Webhook]:
    """A project's webhooks, without their secrets."""
    return Webhook.objects.filter(project=project).defer("secret").order_by("id")


def create_webhook(
    project: Project,
    url: str,
    events: Sequence[str],
    description: str | None = None,
    caller: Caller | None = None,
) -> tuple[Webhook, str]:
    """A new webhook and its secret, which is not shown again; raises Violations and ApiError 400."""
    url, events = check_url(url), check_events(events, project)
    secret = secrets.token_hex(SECRET_BYTES)
    with transaction.atomic():
        # the project's row is locked, or two requests at once would both find the last free place
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if Webhook.objects.filter(project=project).count() >= settings.MAX_WEBHOOKS:
            raise ApiError(400, TOO_MANY)
        webhook = Webhook.objects.create(
            project=project, url=url, events=events, description=description, secret=secret
        )
        record_by(caller, "webhook.created", webhook, project, url=url, events=events)
    return webhook, secret


def update_webhook(webhook: Webhook, change: WebhookChange, caller: Caller | None = None) -> Webhook:
    """The webhook after a partial update; what is already under way keeps its URL. Raises Violations, ApiError 404."""
    said = {
        "url": None if change.url is None else check_url(change.url),
        "events": None if change.events is None else check_events(change.events, webhook.project),
        "is_enabled": change.is_enabled,
        "description": change.description,
    }
    new: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if change.clears_description:
        new["description"] = None
    with transaction.atomic():
        webhook = _locked(webhook)
        changed = {name: value for name, value in new.items() if getattr(webhook, name) != value}
        for name, value in changed.items():
            setattr(webhook, name, value)
        if changed:
            webhook.save(update_fields=list(changed))
            record_by(caller, "webhook.changed", webhook, webhook.project, **changed)
    return webhook


def rotate_secret(webhook: Webhook, caller: Caller | None = None) -> tuple[Webhook, str]:
    """The webhook with another secret, which signs from now on; raises ApiError 404."""
    secret = secrets.token_hex(SECRET_BYTES)
    with transaction.atomic():
        webhook = _locked(webhook)
        webhook.secret = secret
        webhook.save(update_fields=["secret"])
        record_by(caller, "webhook.secret_rotated", webhook, webhook.project)
    return webhook, secret


def delete_webhook(webhook: Webhook, caller: Caller | None = None) -> None:
    """Nothing is told there any more; what was told stays on record until its time has come."""
    with transaction.atomic():
        record_by(caller, "webhook.deleted", webhook, webhook.project, url=webhook.url)
        Webhook.objects.filter(pk=webhook.pk).delete()


def deliveries_of(project: Project, now: datetime, webhook_id: int | None = None) -> QuerySet[WebhookDelivery]:
    """What a project was told, the newest first, as far back as deliveries are kept; also of webhooks that are gone."""
    kept_since = id_floor(now - timedelta(days=settings.RETENTION_DELIVERIES_DAYS + 1))
    found = WebhookDelivery.objects.filter(project_id=project.pk, pk__gte=kept_since).order_by("-id")
    return found if webhook_id is None else found.filter(webhook_id=webhook_id)


def check_events(events: Iterable[str], project: Project) -> list[str]:
    """Each kind once, in the order of EventKind; raises Violations at `events` or `events[i]`, also for the operator's."""
    wanted = list(events)
    known = [kind.value for kind in kinds_for(project.is_system)]
    wrong = [Violation(f"events[{at}]", NOT_A_CHOICE) for at, kind in enumerate(wanted) if kind not in known]
    if wrong or not wanted:
        raise Violations(wrong or [Violation("events", BLANK)])
    return [kind for kind in known if kind in wanted]


def _locked(webhook: Webhook) -> Webhook:
    """The row, locked until the transaction's end; raises ApiError 404 when it is gone."""
    locked = Webhook.objects.select_for_update(of=("self",)).select_related("project").filter(pk=webhook.pk).first()
    if locked is None:
        raise ApiError(404, "Entity not found")
    return locked
