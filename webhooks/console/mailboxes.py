"""Mailboxes: the list, making one, what it is told of, its tokens (each shown once), and what lies in it."""

from urllib.parse import quote

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.event_registry import kinds_for
from projects.scopes import Scope
from relay_project.web.errors import ApiError
from webhooks.console.forms import ToldForm
from webhooks.mailbox.holding import holding_of, holdings_of
from webhooks.mailbox.manage import (
    MAX_TOKENS,
    MailboxChange,
    create_mailbox,
    create_token,
    delete_mailbox,
    delete_token,
    mailboxes_of,
    update_mailbox,
)
from webhooks.models.mailbox import MAX_NAME, Mailbox, MailboxToken, TokenKind

READ, WRITE = Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE
SECTION = "mailboxes"
UNQUOTED = "~:@!$&'()*+,;="  # of a path segment (RFC 3986 §3.3), beside what quote() leaves


class ChangeForm(ToldForm):
    """What a mailbox is told of."""

    def change(self) -> MailboxChange:
        """What was filled in."""
        said = self.cleaned_data
        return MailboxChange(said["description"], said["events"], said["tags"], said["domains"])


class NewForm(ChangeForm):
    """The same, with the name."""

    name = forms.CharField(max_length=MAX_NAME)


class TokenForm(forms.Form):
    """What a token opens, and whose it is."""

    kind = forms.ChoiceField(choices=TokenKind.choices)
    name = forms.CharField(max_length=255, required=False)


@require_safe
@project_page(READ)
def mailboxes(request: HttpRequest, place: Place) -> HttpResponse:
    """The list."""
    rows = list(mailboxes_of(place.project).order_by("-id"))
    holdings = holdings_of(rows, timezone.now())
    context = {
        "rows": [(row, holdings[row.pk]) for row in rows],
        "is_full": len(rows) >= settings.MAX_MAILBOXES,
        "kinds": len(kinds_for(place.project.is_system)),
    }
    return render_place(request, place, "webhooks/mailboxes.html", context, section=SECTION)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def new_mailbox(request: HttpRequest, place: Place) -> HttpResponse:
    """Make one; its tokens are made on its page."""
    form = NewForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made = create_mailbox(place.project, form.cleaned_data["name"], form.change(), place.caller)
            messages.success(request, "The mailbox is made. Its receiver needs a token.")
            return redirect("console-mailbox", place.project.pk, made.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    return _page(request, place, form, "webhooks/new_mailbox.html", {})


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def one_mailbox(request: HttpRequest, place: Place, mailbox_id: int) -> HttpResponse:
    """What it is told of, its tokens, and what lies in it."""
    mailbox = _mailbox_or_404(place, mailbox_id)
    initial = {name: getattr(mailbox, name) for name in ("description", "events", "tags", "domains")}
    form = ChangeForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            update_mailbox(mailbox, form.change(), place.caller)
            messages.success(request, "The mailbox is saved.")
            return redirect("console-mailbox", place.project.pk, mailbox.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    tokens = list(mailbox.tokens.order_by("id"))
    context = {
        "mailbox": mailbox,
        "address": f"{settings.WEB_URL}/v1/mailbox/{quote(mailbox.name, safe=UNQUOTED)}",
        "holding": holding_of(mailbox, timezone.now()),
        "most": settings.MAILBOX_MAX_ITEMS,
        "most_octets": settings.MAILBOX_MAX_BYTES,
        "tokens": tokens,
        "is_full": len(tokens) >= MAX_TOKENS,
    }
    return _page(request, place, form, "webhooks/mailbox.html", context)


@require_POST
@project_page(READ, write=WRITE)
def new_token(request: HttpRequest, place: Place, mailbox_id: int) -> HttpResponse:
    """A new token, in this one answer and nowhere else."""
    mailbox = _mailbox_or_404(place, mailbox_id)
    form = TokenForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say what the token is for: to deposit or to receive.")
        return redirect("console-mailbox", place.project.pk, mailbox.pk)
    try:
        kind = TokenKind(form.cleaned_data["kind"])
        token, text = create_token(mailbox, kind, form.cleaned_data["name"], place.caller)
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("console-mailbox", place.project.pk, mailbox.pk)
    context = {"mailbox": mailbox, "token": token, "text": text}
    response = render_place(request, place, "webhooks/mailbox_token.html", context, section=SECTION)
    patch_cache_control(response, no_store=True)
    return response


@require_POST
@project_page(READ, write=WRITE)
def remove_token(request: HttpRequest, place: Place, mailbox_id: int, token_id: int) -> HttpResponse:
    """It opens nothing any more."""
    mailbox = _mailbox_or_404(place, mailbox_id)
    token = MailboxToken.objects.select_related("mailbox__project").filter(mailbox=mailbox, pk=token_id).first()
    if token is None:
        raise Http404
    delete_token(token, place.caller)
    messages.success(request, "The token is deleted.")
    return redirect("console-mailbox", place.project.pk, mailbox.pk)


@require_POST
@project_page(READ, write=WRITE)
def switch_mailbox(request: HttpRequest, place: Place, mailbox_id: int) -> HttpResponse:
    """On or off, as the form says."""
    mailbox = _mailbox_or_404(place, mailbox_id)
    is_enabled = request.POST.get("enabled") == "1"
    update_mailbox(mailbox, MailboxChange(is_enabled=is_enabled), place.caller)
    messages.success(request, f"The mailbox is {'enabled' if is_enabled else 'disabled'}.")
    return redirect("console-mailbox", place.project.pk, mailbox.pk)


@require_POST
@project_page(READ, write=WRITE)
def remove_mailbox(request: HttpRequest, place: Place, mailbox_id: int) -> HttpResponse:
    """Delete it, with everything in it."""
    delete_mailbox(_mailbox_or_404(place, mailbox_id), place.caller)
    messages.success(request, "The mailbox is deleted.")
    return redirect("console-mailboxes", place.project.pk)


def _mailbox_or_404(place: Place, mailbox_id: int) -> Mailbox:
    try:
        return entity(Mailbox.objects.select_related("project"), place.project, mailbox_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


def _page(request: HttpRequest, place: Place, form: ChangeForm, page: str, context: dict[str, object]) -> HttpResponse:
    context = {**context, **form.kinds(is_system=place.project.is_system), "form": form}
    return render_place(request, place, page, context, section=SECTION, status=400 if form.errors else 200)
