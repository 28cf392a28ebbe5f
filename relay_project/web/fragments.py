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


def reload_whole_page() -> HttpResponse:
    """Instead of a fragment: htmx loads the page anew, and with it whatever stands in its way (signing in)."""
    return HttpResponse(headers={"HX-Refresh": "true"})
