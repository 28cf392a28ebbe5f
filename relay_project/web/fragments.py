"""Pages and their fragments: the same view answers a whole page, or only the part that htmx asked for."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers


def wants_fragment(request: HttpRequest) -> bool:
    """Asked by htmx for a part; boosted links and a restored history want the whole page."""
    htmx = getattr(request, "htmx", None)
    return htmx is not None and bool(htmx) and not htmx.boosted and not htmx.history_restore_request


def render_page(
    request: HttpRequest, page: str, context: Mapping[str, Any], *, fragment: str | None = None, status: int = 200
) -> HttpResponse:
    """The template `page`, or `fragment` (a template whose name starts with `_`, included by the page) for htmx."""
    template = fragment if fragment is not None and wants_fragment(request) else page
    response = render(request, template, dict(context), status=status)
    if fragment is not None:
        patch_vary_headers(response, ("HX-Request",))  # a cache must not give a fragment to who wants the page
    return response


def redirect_whole_page(request: HttpRequest, url: str) -> HttpResponse:
    """A redirect that leaves the page also when htmx asked for a part of it."""
    if getattr(request, "htmx", None):
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponse(status=303, headers={"Location": url})
