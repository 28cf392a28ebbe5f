"""Receiving: the domains with their MX records, and the routes."""

import re
from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from projects.access import ForeignEntity, NoSuchEntity, entity
from projects.console.forms import show_refusal
from projects.console.page import Place, project_page, render_place
from projects.scopes import Scope
from relay_project.web.errors import ApiError
from sending.inbound.routing.change import (
    MAX_DESCRIPTION,
    MAX_FORWARD_TO,
    MAX_PRIORITY,
    RouteChange,
    add_domain,
    add_route,
    change_route,
    owns,
    remove_domain,
    remove_route,
)
from sending.inbound.routing.dns import advice, check_mx
from sending.inbound.routing.find import domains_of, routes_of
from sending.models import InboundRoute, ReceivingDomain, RouteAction

READ, WRITE = Scope.INBOUND_READ, Scope.INBOUND_WRITE
LISTED = 200  # routes on the page of a domain
ACTIONS = {
    RouteAction.EVENT: "Keep it and tell",
    RouteAction.FORWARD: "Forward it",
    RouteAction.DROP: "Take it and forget it",
    RouteAction.REJECT: "Refuse it",
}


_SEPARATORS = re.compile(r"[,;]")
_PLACES = [f"forward_to[{place}]" for place in range(MAX_FORWARD_TO)]


class DomainForm(forms.Form):
    """A domain, and whether all of its mail is wanted."""

    domain = forms.CharField(max_length=254)
    catch_all = forms.BooleanField(required=False)


class RouteForm(forms.Form):
    """The part before the @, and what becomes of the mail. Addresses to forward to stand on lines, or behind commas."""

    pattern = forms.CharField(max_length=65)
    action = forms.ChoiceField(choices=tuple(ACTIONS.items()), initial=RouteAction.EVENT)
    forward_to = forms.CharField(max_length=4000, required=False)
    priority = forms.IntegerField(min_value=0, max_value=MAX_PRIORITY, initial=0, required=False)
    description = forms.CharField(max_length=MAX_DESCRIPTION, required=False)
    is_enabled = forms.BooleanField(required=False, initial=True)

    def change(self, domain: ReceivingDomain) -> RouteChange:
        """What a valid form asks for."""
        values = self.cleaned_data
        action = RouteAction(values["action"])
        addresses = tuple(_SEPARATORS.sub(" ", values["forward_to"]).split())
        return RouteChange(
            f"{values['pattern']}@{domain.domain}",
            values["priority"] or 0,
            action,
            values["description"],
            values["is_enabled"],
            addresses if action is RouteAction.FORWARD else None,
        )


@require_safe
@project_page(READ)
def receiving(request: HttpRequest, place: Place) -> HttpResponse:
    """The domains."""
    context = {"rows": list(domains_of(place.project))}
    return render_place(request, place, "sending/receiving.html", context, section="receiving")


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def new_receiving(request: HttpRequest, place: Place) -> HttpResponse:
    """Add a domain, then show what to publish."""
    if not place.may(WRITE):
        raise Http404
    form = DomainForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            row = add_domain(place.project, values["domain"], place.caller, catch_all=values["catch_all"])
            return redirect("console-receiving-domain", place.project.pk, row.pk)
        except ApiError as refusal:
            show_refusal(form, refusal)
    page, status = "sending/new_receiving.html", 400 if form.errors else 200
    return render_place(request, place, page, {"form": form}, section="receiving", status=status)


@require_safe
@project_page(READ)
def one_receiving(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """A domain with its record and its routes."""
    row = _domain_or_404(place, domain_id)
    context = {
        "domain": row,
        "record": advice(row),
        "routes": list(routes_of(place.project, row.pk)[:LISTED]),
        "actions": {str(action): label for action, label in ACTIONS.items()},
        "is_owned": owns(place.project, row.domain),
    }
    return render_place(request, place, "sending/receiving_domain.html", context, section="receiving")


@require_POST
@project_page(READ, write=WRITE)
def check_receiving(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Ask DNS now."""
    now = datetime.now(UTC)
    row = check_mx(_domain_or_404(place, domain_id), now)
    if row.mx_checked_at != now:
        messages.error(request, "The DNS resolver failed. Try again later.")
    elif row.mx_error_message:
        messages.error(request, row.mx_error_message)
    else:
        messages.success(request, f"The mail of {row.domain} comes here.")
    return redirect("console-receiving-domain", place.project.pk, row.pk)


@require_POST
@project_page(READ, write=WRITE)
def remove_receiving(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """Receive no more of its mail."""
    row = _domain_or_404(place, domain_id)
    remove_domain(row, place.caller)
    messages.success(request, f"The mail of {row.domain} is refused from now on.")
    return redirect("console-receiving", place.project.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def new_route(request: HttpRequest, place: Place, domain_id: int) -> HttpResponse:
    """A new route of a domain."""
    return _route_page(request, place, _domain_or_404(place, domain_id), None)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page(READ, write=WRITE)
def edit_route(request: HttpRequest, place: Place, route_id: int) -> HttpResponse:
    """Change a route."""
    route = _route_or_404(place, route_id)
    return _route_page(request, place, route.domain, route)


@require_POST
@project_page(READ, write=WRITE)
def delete_route(request: HttpRequest, place: Place, route_id: int) -> HttpResponse:
    """Delete a route."""
    route = _route_or_404(place, route_id)
    remove_route(route, place.caller)
    messages.success(request, f"The route {route} is deleted.")
    return redirect("console-receiving-domain", place.project.pk, route.domain_id)


def _route_page(
    request: HttpRequest, place: Place, domain: ReceivingDomain, route: InboundRoute | None
) -> HttpResponse:
    """The form of a route, new or not."""
    if not place.may(WRITE):
        raise Http404
    names = RouteForm.base_fields
    initial = {name: getattr(route, name) for name in names} if route is not None else {}
    initial["forward_to"] = "\n".join(initial.get("forward_to") or ())
    form = RouteForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            if route is None:
                add_route(place.project, form.change(domain), place.caller)
            else:
                change_route(route, form.change(domain), place.caller)
            messages.success(request, "The route is saved.")
            return redirect("console-receiving-domain", place.project.pk, domain.pk)
        except ApiError as refusal:
            show_refusal(form, refusal, {"address": "pattern"} | dict.fromkeys(_PLACES, "forward_to"))
    page, status = "sending/route.html", 400 if form.errors else 200
    context = {"form": form, "domain": domain, "route": route}
    return render_place(request, place, page, context, section="receiving", status=status)


def _domain_or_404(place: Place, domain_id: int) -> ReceivingDomain:
    try:
        return entity(ReceivingDomain.objects.select_related("project"), place.project, domain_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error


def _route_or_404(place: Place, route_id: int) -> InboundRoute:
    try:
        return entity(InboundRoute.objects.select_related("domain", "project"), place.project, route_id)
    except (NoSuchEntity, ForeignEntity) as error:
        raise Http404 from error
