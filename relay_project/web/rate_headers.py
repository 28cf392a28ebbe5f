"""X-RateLimit-*: what a request's rate limit found, on its answer, whatever that is."""

from collections.abc import Callable, Mapping
from typing import cast

from django.http import HttpRequest, HttpResponse


class RateHeaders:
    """Middleware: adds what `tell_rate` left with the request. Refusals before that (401, 403) carry none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for name, value in cast("Mapping[str, str]", getattr(request, "rate_headers", {})).items():
            response[name] = value
        return response


def tell_rate(request: HttpRequest, limit: int, remaining: int, reset_seconds: int) -> None:
    """Leave the contract's three headers with a request; the reset is 0 while something is left."""
    request.rate_headers = {  # type: ignore[attr-defined]
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(0 if remaining else reset_seconds),
    }
