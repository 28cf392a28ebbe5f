"""Domains: the list, adding one, its records to publish, checking and deleting it. Keys: `domain_parts`."""

from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.dkim_keys import MAX_PEM, keys_of
from projects.dns_records import look, wanted
from projects.domain_check import check_now
from projects.domain_digest import DAYS, digest
from projects.domains import create_domain, delete_domain, domains_of
from projects.models import DkimKeyState, Domain, DomainStatus
from projects.report_advice import advice_of
from projects.return_path import return_path_target
from projects.scopes import Scope
from relay_project.web.errors import ApiError

LISTED = 100  # domains on a page; the search finds the others


class DomainForm(forms.Form):
    """A name and, for who has them, a selector and a key of one's own."""

    domain = forms.CharField(max_length=254)
    selector = forms.CharField(max_length=63, required=False)
    private_key = forms.CharField(max_length=MAX_PEM, required=False, strip=False, widget=forms.Textarea)


@require_safe
@project_page(Scope.DOMAINS_READ)
def domains(request: HttpRequest, place: Place) -> HttpResponse:
    """The list."""
    search = request.GET.get("search", "").strip()[:253].replace("\0", "")
    rows = list(domains_of(place.project, search or None)[: LISTED + 1])
    context = {"rows": rows[:LISTED], "has_more": len(rows) > LISTED, "search": search}
    return render_place(request, place, "console/domains.html", context, section="domains")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def new_domain(request: HttpRequest, place: Place) -> HttpResponse:
    """Register a domain, then show what to publish."""
    form = DomainForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            domain = create_domain(
                place.project,
                values["domain"],
                values["selector"] or None,
                values["private_key"] or None,
                caller=place.caller,
            )
            return redirect("console-domain", place.project.pk, domain.pk)
        except ApiError as refusal:
            show_refusal(form, refusal, {"dkim_selector": "selector", "dkim_private_key": "private_key"})
    status = 400 if form.is_bound else 200
    return render_place(request, place, "console/new_domain.html", {"form": form}, section="domains", status=status)


def domain_or_404(place: Place, domain_id: int) -> Domain:
    """The project's domain of that id."""
    try:
        return entity(Domain.objects.all(), place.project, domain_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


@require_safe
@project_page(Scope.DOMAINS_READ)
def one_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Status, records and keys of one domain; with ?looked=1 what DNS says of each record now."""
    return domain_page(request, place, domain_or_404(place, domain_id), looks=request.GET.get("looked") == "1")


def domain_page(
    request: HttpRequest, place: Place, domain: Domain, refusal: str = "", status: int = 200, looks: bool = False
) -> HttpResponse:
    """The page, or its fragment for htmx."""
    keys = keys_of(domain)
    reports = digest(domain, datetime.now(UTC))
    context = {
        "reports": reports,
        "reported": advice_of(reports),
        "report_days": DAYS,
        "domain": domain,
        "records": look(domain) if looks else wanted(domain),
        "looked": looks,
        "keys": keys,
        "signs_twice": sum(key.state == DkimKeyState.ACTIVE for key in keys) > 1,
        "target": return_path_target(),
        "refusal": refusal,
        "may_verify": place.may(Scope.DOMAINS_WRITE) and domain.status != DomainStatus.SUSPENDED,
        "may_delete": place.may(Scope.DOMAINS_WRITE)
        and domain.status != DomainStatus.SUSPENDED
        and not place.project.is_system,
    }
    return render_place(
        request,
        place,
        "console/domain.html",
        context,
        section="domains",
        fragment="console/_domain.html",
        status=status,
    )


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def verify_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Look into DNS now."""
    domain = domain_or_404(place, domain_id)
    try:
        domain = check_now(domain, datetime.now(UTC))
    except ApiError as refusal:
        return domain_page(request, place, domain, refusal.message, status=refusal.status)
    if getattr(request, "htmx", None):
        return domain_page(request, place, domain, looks=True)
    if domain.dkim_error_message:
        messages.error(request, f"Not verified: {domain.dkim_error_message}")
    else:
        messages.success(request, f"{domain.domain} is verified.")
    return redirect(f"{reverse('console-domain', args=[place.project.pk, domain.pk])}?looked=1")


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def remove_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Delete a domain whose name was typed."""
    domain = domain_or_404(place, domain_id)
    if request.POST.get("name", "").strip().lower() != domain.domain:
        return domain_page(request, place, domain, f"To delete the domain, type {domain.domain}.", status=400)
    try:
        delete_domain(domain, place.caller)
    except ApiError as refusal:
        return domain_page(request, place, domain, refusal.message, status=refusal.status)
    messages.success(request, f"{domain.domain} is deleted. Mail already accepted goes on its way.")
    return redirect("console-domains", place.project.pk)
