"""Domains: the list, adding one, its records to publish, verifying and deleting it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.dkim_keys import MAX_PEM, current_key, dkim_host, dkim_txt_value
from projects.domain_status import recheck
from projects.domains import create_domain, delete_domain, domains_of
from projects.models import Domain, DomainStatus
from projects.scopes import Scope
from relay_project.web.errors import ApiError

LISTED = 100  # domains on a page; the search finds the others


class DomainForm(forms.Form):
    """A name and, for who has them, a selector and a key of one's own."""

    domain = forms.CharField(max_length=254)
    selector = forms.CharField(max_length=63, required=False)
    private_key = forms.CharField(max_length=MAX_PEM, required=False, strip=False, widget=forms.Textarea)


@dataclass(frozen=True, slots=True)
class Record:
    """One DNS record to publish."""

    kind: str
    host: str
    value: str
    why: str
    is_required: bool
    name: str  # relative to the domain, as many DNS providers ask for it


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


def _domain_or_404(place: Place, domain_id: int) -> Domain:
    try:
        return entity(Domain.objects.all(), place.project, domain_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


@require_safe
@project_page(Scope.DOMAINS_READ)
def one_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Status and records of one domain."""
    return _domain_page(request, place, _domain_or_404(place, domain_id))


def _domain_page(
    request: HttpRequest, place: Place, domain: Domain, refusal: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "domain": domain,
        "records": records_of(domain),
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


def records_of(domain: Domain) -> list[Record]:
    """What to publish: the DKIM record is needed, a DMARC record is asked for by the great mailbox providers."""
    key = current_key(domain)
    host = dkim_host(key)
    return [
        Record(
            "TXT",
            host,
            dkim_txt_value(key),
            "Proves that the domain is yours and carries the public key that receivers check signatures with.",
            True,
            host.removesuffix(f".{domain.domain}"),
        ),
        Record(
            "TXT",
            f"_dmarc.{domain.domain}",
            "v=DMARC1; p=none",
            "Gmail, Yahoo and Microsoft expect a DMARC policy. If you have one already, keep yours.",
            False,
            "_dmarc",
        ),
    ]


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def verify_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Look into DNS now."""
    domain = _domain_or_404(place, domain_id)
    try:
        domain = recheck(domain, datetime.now(UTC))
    except ApiError as refusal:
        return _domain_page(request, place, domain, refusal.message, status=refusal.status)
    if getattr(request, "htmx", None):
        return _domain_page(request, place, domain)
    if domain.dkim_error_message:
        messages.error(request, f"Not verified: {domain.dkim_error_message}")
    else:
        messages.success(request, f"{domain.domain} is verified.")
    return redirect("console-domain", place.project.pk, domain.pk)


@require_POST
@project_page(Scope.DOMAINS_READ, write=Scope.DOMAINS_WRITE)
def remove_domain(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Delete a domain whose name was typed."""
    domain = _domain_or_404(place, domain_id)
    if request.POST.get("name", "").strip().lower() != domain.domain:
        return _domain_page(request, place, domain, f"To delete the domain, type {domain.domain}.", status=400)
    try:
        delete_domain(domain, place.caller)
    except ApiError as refusal:
        return _domain_page(request, place, domain, refusal.message, status=refusal.status)
    messages.success(request, f"{domain.domain} is deleted. Mail already accepted goes on its way.")
    return redirect("console-domains", place.project.pk)
