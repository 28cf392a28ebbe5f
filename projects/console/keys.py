"""API keys: the list, making one (shown once), switching it on and off, rotating it, deleting it."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.audit import address_of
from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.api_keys import MAX_KEYS, KeyChange, create_key, delete_key, update_key
from projects.console.forms import PRESET_VALUES, scope_rows, show_refusal
from projects.console.page import Place, project_page, render_place
from projects.key_rotation import most_overlap_hours, rotate_key
from projects.models import ApiKey
from projects.scopes import SCOPES, Scope
from relay_project.web.errors import ApiError

OVERLAPS = ((0, "not at all"), (1, "for an hour"), (24, "for a day"), (72, "for three days"), (168, "for a week"))


@dataclass(frozen=True, slots=True)
class SmtpPlace:
    """A port that takes mail of programs that sign in with a key."""

    how: str
    host: str
    port: int


class KeyForm(forms.Form):
    """What a key may do, and from where."""

    name = forms.CharField(max_length=255)
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in SCOPES],
        error_messages={"required": "Choose at least one scope."},
    )
    allowed_ips = forms.CharField(required=False, max_length=10_000, widget=forms.Textarea)

    is_test = forms.BooleanField(required=False)

    def addresses(self) -> list[str]:
        """One a line, or parted by commas."""
        text: str = self.cleaned_data["allowed_ips"]
        return [entry for entry in text.replace(",", " ").split() if entry]


@require_safe
@project_page(Scope.API_KEYS_READ)
def keys(request: HttpRequest, place: Place) -> HttpResponse:
    """The list."""
    rows = list(ApiKey.objects.filter(project=place.project).select_related("former").order_by("-id"))
    context = {"rows": rows, "is_full": len(rows) >= MAX_KEYS, "most": MAX_KEYS, "smtp": smtp_places() if rows else ()}
    return render_place(request, place, "console/keys.html", context, section="keys")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.API_KEYS_READ, write=Scope.API_KEYS_WRITE)
def new_key(request: HttpRequest, place: Place) -> HttpResponse:
    """Make a key. The token is in this one answer and nowhere else, so there is no redirect after it."""
    form = KeyForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            key, token = create_key(
                place.project,
                values["name"],
                values["scopes"],
                form.addresses(),
                caller=place.caller,
                is_test=values["is_test"],
            )
            return _show_key(request, place, key, token)
        except ApiError as refusal:
            show_refusal(form, refusal)
    return _key_form(request, place, form, "console/new_key.html", {})


def _key_form(request: HttpRequest, place: Place, form: KeyForm, page: str, context: dict[str, object]) -> HttpResponse:
    chosen = list(form["scopes"].value() or [])
    context = {
        **context,
        "form": form,
        "scope_rows": scope_rows(chosen, place.caller.scopes),
        "presets": PRESET_VALUES,
        "address": address_of(request) or "",
    }
    return render_place(request, place, page, context, section="keys", status=400 if form.errors else 200)


def _show_key(request: HttpRequest, place: Place, key: ApiKey, token: str, **more: object) -> HttpResponse:
    curl = (
        f"curl {settings.WEB_URL}/api/console/sends \\\n"
        f"  -H 'Authorization: Bearer {token}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"from": "you@{_sending_domain(place)}", "to": "accept@{settings.SIMULATOR_DOMAIN}",\n'
        '       "subject": "Hello", "body_text": "It works."}\''
    )
    sends = Scope.SENDS_SEND in key.scopes
    context = {"key": key, "token": token, "curl": curl if sends else "", "smtp": smtp_places(), **more}
    response = render_place(request, place, "console/key_made.html", context, section="keys")
    patch_cache_control(response, no_store=True)
    return response


def smtp_places() -> list[SmtpPlace]:
    """Where mail can be submitted; a server that listens on loopback alone is found there and not by its name."""
    ways = ((settings.SMTP_SUBMISSION, "STARTTLS"), (settings.SMTP_SUBMISSIONS, "TLS from the start"))
    found = [
        SmtpPlace(how, address if ipaddress.ip_address(address).is_loopback else settings.SMTP_HOSTNAME, port)
        for places, how in ways
        for address, port in places
    ]
    return list(dict.fromkeys(found))  # IPv4 and IPv6 are one place to who knows the name


def _sending_domain(place: Place) -> str:
    domain = place.project.domains.filter(status__in=("active", "warning")).order_by("id").first()
    return domain.domain if domain else "your-domain.example"


def _key_or_404(place: Place, key_id: int) -> ApiKey:
    try:
        return entity(ApiKey.objects.select_related("project"), place.project, key_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.API_KEYS_READ, write=Scope.API_KEYS_WRITE)
def one_key(request: HttpRequest, place: Place, key_id: int) -> HttpResponse:
    """Change a key's name, scopes and addresses."""
    key = _key_or_404(place, key_id)
    initial = {"name": key.name, "scopes": key.scopes, "allowed_ips": "\n".join(key.allowed_ips)}
    form = KeyForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            change = KeyChange(name=values["name"], scopes=values["scopes"], allowed_ips=form.addresses())
            update_key(key, change, place.caller)
            messages.success(request, f"{values['name']} is saved.")
            return redirect("console-keys", place.project.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    return _key_form(request, place, form, "console/key.html", {"key": key, "rotation": RotationForm()})


@require_POST
@project_page(Scope.API_KEYS_READ, write=Scope.API_KEYS_WRITE)
def switch_key(request: HttpRequest, place: Place, key_id: int) -> HttpResponse:
    """On or off, as the form says; a disabled key is refused from the next request on."""
    key = _key_or_404(place, key_id)
    is_enabled = request.POST.get("enabled") == "1"
    update_key(key, KeyChange(is_enabled=is_enabled), place.caller)
    messages.success(request, f"{key.name} is {'enabled' if is_enabled else 'disabled'}.")
    return redirect("console-keys", place.project.pk)


class RotationForm(forms.Form):
    """For how long the old secret works on."""

    overlap_hours = forms.TypedChoiceField(coerce=int, choices=[])

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        spans = [(hours, words) for hours, words in OVERLAPS if hours <= most_overlap_hours()]
        self.fields["overlap_hours"].choices = spans  # type: ignore[attr-defined]


@require_POST
@project_page(Scope.API_KEYS_READ, write=Scope.API_KEYS_WRITE)
def rotate(request: HttpRequest, place: Place, key_id: int) -> HttpResponse:
    """Give a key a new secret, which is in this one answer and nowhere else."""
    key = _key_or_404(place, key_id)
    form = RotationForm(request.POST)
    if not form.is_valid():
        return redirect("console-key", place.project.pk, key.pk)
    try:
        key, token, until = rotate_key(key, form.cleaned_data["overlap_hours"], datetime.now(UTC), place.caller)
    except ApiError as refusal:
        messages.error(request, refusal.message)
        return redirect("console-key", place.project.pk, key.pk)
    return _show_key(request, place, key, token, rotated=True, former_until=until)


@require_POST
@project_page(Scope.API_KEYS_READ, write=Scope.API_KEYS_WRITE)
def remove_key(request: HttpRequest, place: Place, key_id: int) -> HttpResponse:
    """Delete a key."""
    key = _key_or_404(place, key_id)
    delete_key(key, place.caller)
    messages.success(request, f"{key.name} is deleted.")
    return redirect("console-keys", place.project.pk)
