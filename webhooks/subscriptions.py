"""A project's webhooks: who wants to be told of what. The secret that signs is shown once, when it is made (lesson S10)."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from projects.access import Caller, record_by
from projects.models import Project
from relay_project.db.ids import id_floor
from relay_project.web.errors import ApiError
from webhooks.models import DisabledReason, Webhook, WebhookDelivery
from webhooks.options import check_domains, check_events, check_headers, check_tags
from webhooks.switch import disable, enable
from webhooks.url import check_url

SECRET_BYTES = 16  # 128 bits, 32 hexadecimal characters, as the contract
MAX_DESCRIPTION = 1024  # characters, the column's width

TOO_MANY = "You have reached the maximum number of webhooks for this project."


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What an update says; None leaves a field as it is.

    `headers` are all that there are from then on; a value of None stays what it is.
    """

    url: str | None = None
    events: Sequence[str] | None = None
    description: str | None = None
    is_enabled: bool | None = None
    clears_description: bool = False
    headers: Mapping[str, str | None] | None = None
    tags: Sequence[str] | None = None
    domains: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a new webhook may have beside its URL and kinds."""

    description: str | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    tags: Sequence[str] = ()
    domains: Sequence[str] = ()


NO_OPTIONS = Options()


def webhooks_of(project: Project) -> QuerySet[Webhook]:
    """A project's webhooks, without their secrets."""
    return Webhook.objects.filter(project=project).defer("secret", "previous_secret").order_by("id")


def create_webhook(
    project: Project,
    url: str,
    events: Sequence[str],
    options: Options = NO_OPTIONS,
    caller: Caller | None = None,
) -> tuple[Webhook, str]:
    """A new webhook and its secret, which is not shown again; raises Violations and ApiError 400."""
    url, events = check_url(url), check_events(events, project)
    headers = check_headers(options.headers, {})
    tags, domains = check_tags(options.tags), check_domains(options.domains)
    secret = secrets.token_hex(SECRET_BYTES)
    with transaction.atomic():
        # the project's row is locked, or two requests at once would both find the last free place
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if Webhook.objects.filter(project=project).count() >= settings.MAX_WEBHOOKS:
            raise ApiError(400, TOO_MANY)
        webhook = Webhook.objects.create(
            project=project,
            url=url,
            events=events,
            description=options.description,
            secret=secret,
            headers=_stored(headers),  # type: ignore[misc] # null: there are none
            tags=tags,
            domains=domains,
        )
        said = {"headers": list(headers), "tags": tags, "domains": domains}
        record_by(
            caller, "webhook.created", webhook, project, url=url, events=events, **{k: v for k, v in said.items() if v}
        )
    return webhook, secret


def update_webhook(webhook: Webhook, change: WebhookChange, caller: Caller | None = None) -> Webhook:
    """The webhook after a partial update; what is already under way keeps its URL. Raises Violations, ApiError 404.

    Headers stand in the audit log by name alone.
    """
    said = {
        "url": None if change.url is None else check_url(change.url),
        "events": None if change.events is None else check_events(change.events, webhook.project),
        "tags": None if change.tags is None else check_tags(change.tags),
        "domains": None if change.domains is None else check_domains(change.domains),
        "description": change.description,
    }
    new: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if change.clears_description:
        new["description"] = None
    with transaction.atomic():
        webhook = _locked(webhook)
        detail = dict(new)
        if change.headers is not None:
            headers = check_headers(change.headers, headers_of(webhook))
            if headers != headers_of(webhook):
                new["headers"], detail["headers"] = _stored(headers), list(headers)
        changed = {name: value for name, value in new.items() if getattr(webhook, name) != value}
        for name, value in changed.items():
            setattr(webhook, name, value)
        if changed:
            webhook.save(update_fields=list(changed))
            record_by(caller, "webhook.changed", webhook, webhook.project, **{name: detail[name] for name in changed})
        if change.is_enabled is not None and change.is_enabled != webhook.is_enabled:
            if change.is_enabled:
                enable(webhook, caller)
            else:
                disable(webhook, DisabledReason.BY_HAND, caller)
            webhook.refresh_from_db()
    return webhook


def headers_of(webhook: Webhook) -> dict[str, str]:
    """The headers that its calls have beside ours."""
    return dict(orjson.loads(webhook.headers)) if webhook.headers else {}


def _stored(headers: Mapping[str, str]) -> str | None:
    return orjson.dumps(headers).decode() if headers else None


def rotate_secret(
    webhook: Webhook, caller: Caller | None = None, overlap_hours: int = 0, now: datetime | None = None
) -> tuple[Webhook, str]:
    """The webhook with another secret, which signs from now on; the former one signs beside it for the overlap.

    One of an earlier rotation that still signed ends now. The caller has checked 0 ≤ overlap_hours ≤
    most_overlap_hours(). Raises ApiError 404.
    """
    secret = secrets.token_hex(SECRET_BYTES)
    with transaction.atomic():
        webhook = _locked(webhook)
        webhook.previous_secret = webhook.secret if overlap_hours else None  # type: ignore[assignment] # null: none
        until = (now or datetime.now(UTC)) + timedelta(hours=overlap_hours)
        webhook.previous_secret_until = until if overlap_hours else None
        webhook.secret = secret
        webhook.save(update_fields=["secret", "previous_secret", "previous_secret_until"])
        record_by(caller, "webhook.secret_rotated", webhook, webhook.project, overlap_hours=overlap_hours)
    return webhook, secret


def delete_webhook(webhook: Webhook, caller: Caller | None = None) -> None:
    """Nothing is told there any more; what was told stays on record until its time has come."""
    with transaction.atomic():
        record_by(caller, "webhook.deleted", webhook, webhook.project, url=webhook.url)
        Webhook.objects.filter(pk=webhook.pk).delete()


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; None and "" stand for all."""

    webhook_id: int | None = None
    status: str | None = None
    event: str | None = None


def deliveries_of(
    project: Project, now: datetime, wanted: DeliveryFilter = DeliveryFilter()
) -> QuerySet[WebhookDelivery]:
    """What a project was told, the newest first, as far back as deliveries are kept; also of webhooks that are gone."""
    kept_since = id_floor(now - timedelta(days=settings.RETENTION_DELIVERIES_DAYS + 1))
    found = WebhookDelivery.objects.filter(project_id=project.pk, pk__gte=kept_since).order_by("-id")
    asked = {"webhook_id": wanted.webhook_id, "status": wanted.status, "event": wanted.event}
    return found.filter(**{name: value for name, value in asked.items() if value})


def _locked(webhook: Webhook) -> Webhook:
    """The row, locked until the transaction's end; raises ApiError 404 when it is gone."""
    locked = Webhook.objects.select_for_update(of=("self",)).select_related("project").filter(pk=webhook.pk).first()
    if locked is None:
        raise ApiError(404, "Entity not found")
    return locked
