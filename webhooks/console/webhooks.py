"""Webhooks: the list, making one (its secret shown once), changing it, another secret, deleting it."""

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.keys import RotationForm
from projects.console.page import Place, project_page, render_place
from projects.event_registry import kinds_for
from projects.scopes import Scope
from relay_project.web.errors import ApiError
from webhooks.console.forms import WebhookForm, headers_text
from webhooks.models import Webhook
from webhooks.signature import standard_secret
from webhooks.subscriptions import (
    Options,
    WebhookChange,
    create_webhook,
    delete_webhook,
    headers_of,
    rotate_secret,
    update_webhook,
    webhooks_of,
)


@require_safe
@project_page(Scope.WEBHOOKS_READ)
def webhooks(request: HttpRequest, place: Place) -> HttpResponse:
    """The list."""
    rows = list(webhooks_of(place.project).order_by("-id"))
    kinds = len(kinds_for(place.project.is_system))
    context = {"rows": rows, "is_full": len(rows) >= settings.MAX_WEBHOOKS, "kinds": kinds}
    return render_place(request, place, "webhooks/webhooks.html", context, section="webhooks")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def new_webhook(request: HttpRequest, place: Place) -> HttpResponse:
    """Make one. The secret is in this one answer and nowhere else, so there is no redirect after it."""
    form = WebhookForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        options = Options(values["description"] or None, values["headers"], values["tags"], values["domains"])
        try:
            made = create_webhook(place.project, values["url"], values["events"], options, place.caller)
            return _show_secret(request, place, *made, title="Webhook created")
        except ApiError as refusal:
            show_refusal(form, refusal)
    return _form_page(request, place, form, "webhooks/new_webhook.html", {})


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def edit_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """Change where it leads and what it is told."""
    webhook = webhook_or_404(place, webhook_id)
    initial = {
        "url": webhook.url,
        "description": webhook.description,
        "events": webhook.events,
        "headers": headers_text(headers_of(webhook)),
        "tags": webhook.tags,
        "domains": webhook.domains,
    }
    form = WebhookForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            update_webhook(webhook, _change(form), place.caller)
            messages.success(request, "The webhook is saved.")
            return redirect("console-webhook", place.project.pk, webhook.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    context = {"webhook": webhook, "rotation": RotationForm()}
    return _form_page(request, place, form, "webhooks/edit_webhook.html", context)


def _change(form: WebhookForm) -> WebhookChange:
    values = form.cleaned_data
    text = values["description"]
    return WebhookChange(
        values["url"],
        values["events"],
        text or None,
        clears_description=not text,
        headers=values["headers"],
        tags=values["tags"],
        domains=values["domains"],
    )


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def switch_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """On or off, as the form says."""
    webhook = webhook_or_404(place, webhook_id)
    is_enabled, since = request.POST.get("enabled") == "1", webhook.disabled_at
    update_webhook(webhook, WebhookChange(is_enabled=is_enabled), place.caller)
    messages.success(request, f"The webhook is {'enabled' if is_enabled else 'disabled'}.")
    if request.POST.get("back") == "list":
        return redirect("console-webhooks", place.project.pk)
    page = reverse("console-webhook", args=[place.project.pk, webhook.pk])
    return redirect(f"{page}?missed={int(since.timestamp())}" if is_enabled and since else page)


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def new_secret(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """Another secret, shown this once."""
    webhook = webhook_or_404(place, webhook_id)
    form = RotationForm(request.POST)
    if not form.is_valid():
        return redirect("console-edit-webhook", place.project.pk, webhook.pk)
    made = rotate_secret(webhook, place.caller, form.cleaned_data["overlap_hours"])
    return _show_secret(request, place, *made, title="New secret")


@require_POST
@project_page(Scope.WEBHOOKS_READ, write=Scope.WEBHOOKS_WRITE)
def remove_webhook(request: HttpRequest, place: Place, webhook_id: int) -> HttpResponse:
    """Delete it."""
    delete_webhook(webhook_or_404(place, webhook_id), place.caller)
    messages.success(request, "The webhook is deleted.")
    return redirect("console-webhooks", place.project.pk)


def webhook_or_404(place: Place, webhook_id: int) -> Webhook:
    """The project's webhook of a page."""
    rows = Webhook.objects.select_related("project").defer("secret", "previous_secret")
    try:
        return entity(rows, place.project, webhook_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


def _form_page(
    request: HttpRequest, place: Place, form: WebhookForm, page: str, context: dict[str, object]
) -> HttpResponse:
    has_options = any(form[name].value() or form.errors.get(name) for name in ("headers", "tags", "domains"))
    kinds = form.kinds(is_system=place.project.is_system)
    context = {**context, **kinds, "form": form, "has_options": has_options}
    return render_place(request, place, page, context, section="webhooks", status=400 if form.errors else 200)


def _show_secret(request: HttpRequest, place: Place, webhook: Webhook, secret: str, *, title: str) -> HttpResponse:
    context = {"webhook": webhook, "secret": secret, "standard": standard_secret(secret), "title": title}
    response = render_place(request, place, "webhooks/secret.html", context, section="webhooks")
    patch_cache_control(response, no_store=True)
    return response
