"""The one shape of an error under /api: `message`, `status`, and where they help `data`, `violations` and `errors`.

Views raise ApiError or Violations; what Django and DRF raise by themselves is translated here. Anything unknown is
logged with its traceback and answered with the same sentence, which tells a stranger nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

INTERNAL = "Internal Server Error. Our team has been notified."
UNAVAILABLE = "The service is temporarily unavailable. Please try again."
TOO_LARGE = "The request is too large."
UNSUPPORTED = "Unsupported format."
BAD_REQUEST = "Bad request."
API_PREFIXES = ("/api/", "/v1/")

log = structlog.get_logger(__name__)


class ApiError(Exception):
    """A refusal with its status and a sentence for whoever sent the request."""

    def __init__(
        self,
        status: int,
        message: str,
        data: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.data = data
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """What goes over the wire."""
        body: dict[str, Any] = {"message": self.message, "status": self.status}
        if self.data is not None:
            body["data"] = dict(self.data)
        return body


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that does not hold what it should; `property` is a path such as `scopes[0]`."""

    property: str
    message: str


class Violations(ApiError):
    """The body or query does not say what it must (422); every field is named, the first one in the message."""

    def __init__(self, violations: Iterable[Violation], status: int = 422) -> None:
        self.violations = tuple(violations)
        first = self.violations[0]
        super().__init__(status, f"{first.property}: {first.message}" if first.property else first.message)

    def body(self) -> dict[str, Any]:
        """Both dialects: `violations` as a list, `errors` as a map from field to messages."""
        errors: dict[str, list[str]] = {}
        for violation in self.violations:
            errors.setdefault(violation.property, []).append(violation.message)
        listed = [{"property": violation.property, "message": violation.message} for violation in self.violations]
        return {**super().body(), "violations": listed, "errors": errors}


def violation(field: str, message: str) -> Violations:
    """A refusal that names one field."""
    return Violations([Violation(field, message)])


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's EXCEPTION_HANDLER: every exception of a view becomes an answer of the one shape."""
    refusal = _translate(error) or _crash(error, context["request"])
    return Response(refusal.body(), status=refusal.status, headers=dict(refusal.headers))


def answer_error(error: Exception, request: HttpRequest) -> HttpResponse:
    """The same for a plain view, which catches what it raises."""
    return _answer(_translate(error) or _crash(error, request))


@csrf_exempt  # nothing is done, and a client with a key has no token: it is told what is wrong, not a page about cookies
def unknown_route(request: HttpRequest, rest: str = "") -> HttpResponse:
    """The last route under /api: answers 404 in our shape even where DEBUG would show its own page."""
    return _answer(_no_route(request))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler400: also 413, which Django reports as a suspicious operation."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return _answer(_translate(exception) or ApiError(400, BAD_REQUEST))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler403."""
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return _answer(ApiError(403, "Forbidden."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler404."""
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return _answer(_no_route(request))


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500: Django has already logged the traceback."""
    if not _is_api(request):
        return defaults.server_error(request)
    return _answer(ApiError(500, INTERNAL))


def _answer(refusal: ApiError) -> JsonResponse:
    return JsonResponse(refusal.body(), status=refusal.status, headers=dict(refusal.headers))


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(API_PREFIXES)


def _no_route(request: HttpRequest) -> ApiError:
    return ApiError(404, f'No route found for "{request.method} {request.path[:200]}".')


def _translate(error: Exception) -> ApiError | None:
    """The refusal that an exception stands for; None for what nobody meant to raise."""
    match error:
        case ApiError():
            return error
        case exceptions.APIException():
            return _translate_drf(error)
        case Http404():
            return ApiError(404, "Not found.")
        case PermissionDenied():
            return ApiError(403, str(error) or "Forbidden.")
        case RequestDataTooBig():
            return ApiError(413, TOO_LARGE)
        case SuspiciousOperation() | BadRequest() | UnreadablePostError() | MultiPartParserError():
            return ApiError(400, BAD_REQUEST)
        case _:
            return None


def _translate_drf(error: exceptions.APIException) -> ApiError:
    headers = {"WWW-Authenticate": header} if (header := getattr(error, "auth_header", None)) else {}
    match error:
        case exceptions.UnsupportedMediaType():
            return ApiError(415, UNSUPPORTED)
        case exceptions.MethodNotAllowed():
            return ApiError(405, "Method not allowed.")
        case _:
            return ApiError(error.status_code, str(error.detail), headers=headers)


def _crash(error: Exception, request: Any) -> ApiError:
    """Log what nobody meant to raise; the database being away is not our mistake, and worth another try."""
    match = getattr(request, "resolver_match", None)
    route = match.route if match else ""
    if isinstance(error, OperationalError | InterfaceError):
        log.error("api.database_unavailable", method=request.method, route=route, exc_info=error)
        return ApiError(503, UNAVAILABLE, headers={"Retry-After": "5"})
    log.error("api.crashed", method=request.method, route=route, exc_info=error)
    return ApiError(500, INTERNAL)
