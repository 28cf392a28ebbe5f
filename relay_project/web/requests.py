"""One line in the log for every request, by route: no query strings, no bodies, no keys, no addresses in paths."""

import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from relay_project.metrics import SECONDS, Histogram

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # others are made up

SERVED = Histogram(
    "relay_http_request_seconds",
    "Time from the request's head to the response's, by route.",
    ("method", "route", "status"),
    buckets=SECONDS,
)

log = structlog.get_logger(__name__)


class RequestLog:
    """Middleware: measures and tells; what a view knows more it puts into `request.log_context`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        start = time.perf_counter()
        response = self.get_response(request)
        seconds = time.perf_counter() - start
        method, route, status = method_of(request), route_of(request), response.status_code
        SERVED.labels(method, route, str(status)).observe(seconds)
        tell = log.debug if is_static(request) else log.info
        context = getattr(request, "log_context", {})
        tell("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1), **context)
        return response


def route_of(request: HttpRequest) -> str:
    """The pattern that matched, so that ids and addresses in paths stay out of logs and metrics."""
    if is_static(request):
        return "static"
    match = request.resolver_match
    return f"/{match.route}" if match else "unmatched"


def method_of(request: HttpRequest) -> str:
    """The method, bounded: a client may send any word."""
    return request.method if request.method in METHODS else "other"


def is_static(request: HttpRequest) -> bool:
    """Whether whitenoise answered."""
    return request.path.startswith(settings.STATIC_URL)
