"""The short way of API requests that carry an Authorization header: nothing that only a browser needs is done for them.

Sessions, CSRF, messages, the content security policy and the like cost more than the look-up of a key. Whoever makes such
a request is known by the header alone (projects.authentication), so it goes from here straight to its view; what the
middleware before this one adds holds for it too.
"""

from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch, resolve

CACHED_PATHS = 1024  # what `resolve` makes of them, pattern by pattern, costs as much as reading a mail's addresses
PREFIXES = ("/api/console/", "/v1/mailbox/")  # not all of /api: the OpenID callback is a browser's


class KeyedRequests:
    """Middleware: behind the log of requests, before everything that is for browsers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "HTTP_AUTHORIZATION" not in request.META or not request.path_info.startswith(PREFIXES):
            return self.get_response(request)
        request.get_host()  # refuses what ALLOWED_HOSTS does not name
        request.resolver_match = match = _resolved(request.path_info)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
        if hasattr(response, "render"):
            response = response.render()
        if not response.streaming and not response.has_header("Content-Length"):
            response.headers["Content-Length"] = str(len(response.content))
        return response


@lru_cache(CACHED_PATHS)
def _resolved(path: str) -> ResolverMatch:
    """The view of a path; raises Http404, which is not kept."""
    return resolve(path)
