"""What belongs to a domain: its DKIM keys, added and given up, and its return path."""

from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from projects.console.domains import domain_or_404, domain_page
from projects.console.page import Place, project_page
from projects.dkim_keys import MAX_PEM
from projects.dkim_rotation import add_key, drop_key, find_key
from projects.models import DkimAlgorithm
from projects.return_path import set_return_path
from projects.scopes import Scope
from relay_project.web.errors import ApiError


class KeyForm(forms.Form):
    """A new key; empty fields are made up."""

    algorithm = forms.ChoiceField(choices=DkimAlgorithm.choices, required=False)
    selector = forms.CharField(max_length=63, required=False)
    private_key = forms.CharField(max_length=MAX_PEM, required=False, strip=False)


class ReturnPathForm(forms.Form):
    """A host; an empty one takes the return path away."""

    return_path = forms.CharField(max_length=253, required=False)


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def new_key(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """A new key, which waits for its record."""
    domain = domain_or_404(place, domain_id)
    form = KeyForm(request.POST)
    if not form.is_valid():
        return domain_page(request, place, domain, _first_error(form), status=400)
    said = form.cleaned_data
    algorithm = DkimAlgorithm(said["algorithm"] or DkimAlgorithm.RSA)
    try:
        key = add_key(
            domain,
            datetime.now(UTC),
            said["selector"] or None,
            said["private_key"].strip() or None,
            algorithm,
            caller=place.caller,
        )
    except ApiError as refusal:
        return domain_page(request, place, domain, refusal.message, status=refusal.status)
    messages.success(request, f"Publish the record of {key.selector}. It signs as soon as it is found.")
    return redirect("console-domain", place.project.pk, domain.pk)


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def remove_key(request: HttpRequest, place: Place, domain_id: int, key_id: int) -> HttpResponse:
    """Give a key up."""
    domain = domain_or_404(place, domain_id)
    try:
        drop_key(find_key(domain, key_id), datetime.now(UTC), place.caller)
    except ApiError as refusal:
        return domain_page(request, place, domain, refusal.message, status=refusal.status)
    messages.success(request, "The key signs nothing more.")
    return redirect("console-domain", place.project.pk, domain.pk)


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def choose_return_path(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Another return path, or none."""
    domain = domain_or_404(place, domain_id)
    form = ReturnPathForm(request.POST)
    if not form.is_valid():
        return domain_page(request, place, domain, _first_error(form), status=400)
    host = form.cleaned_data["return_path"]
    try:
        set_return_path(domain, host or None, datetime.now(UTC), place.caller)
    except ApiError as refusal:
        return domain_page(request, place, domain, refusal.message, status=refusal.status)
    told = (
        f"Publish the record of {host}. It is used as soon as it is found." if host else "The return path is removed."
    )
    messages.success(request, told)
    return redirect("console-domain", place.project.pk, domain.pk)


def _first_error(form: forms.Form) -> str:
    name, errors = next(iter(form.errors.items()))
    return f"{name}: {errors[0]}"
