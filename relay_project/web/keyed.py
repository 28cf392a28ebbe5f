"""The short way of API requests that carry an Authorization header: nothing that only a browser needs is done for them.

Sessions, CSRF, messages, the content security policy and the like cost more than the look-up of a key. Whoever makes such
a request is known by the header alone (projects.authentication), so it goes from here straight to its view; what the
middleware before this one adds holds for it too.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import resolve

PREFIX = "/api/console/"  # not all of /api: the OpenID callback is a browser's


class KeyedRequests:
    """Middleware: behind the log of requests, before everything that is for browsers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "HTTP_AUTHORIZATION" not in request.META or not request.path_info.startswith(PREFIX):
            return self.get_response(request)
        request.get_host()  # refuses what ALLOWED_HOSTS does not name
        request.resolver_match = match = resolve(request.path_info)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
        if hasattr(response, "render"):
            response = response.render()
        if not response.streaming and not response.has_header("Content-Length"):
            response.headers["Content-Length"] = str(len(response.content))
        return response
