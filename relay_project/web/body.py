"""A plain view's request body: refused by its announced length before it is read, bounded when it has none.

The hot endpoints read by this; DRF's views by the parsers of relay_project.web.json, to the same answers.
"""

from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from gunicorn.http.errors import ParseException

from relay_project.web.errors import TOO_LARGE, UNSUPPORTED, ApiError
from relay_project.web.json import parse_form, parse_json

CUT_OFF = "The request's body ended early."


def check_length(request: HttpRequest, most: int | None = None) -> None:
    """Raises ApiError 413 when the announced body is larger than `most` octets, by default MAX_REQUEST_BYTES.

    Nothing has been read then.
    """
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > (most or settings.MAX_REQUEST_BYTES):
        raise ApiError(413, TOO_LARGE)


def read_object(request: HttpRequest, most: int | None = None) -> tuple[bytes, dict[str, Any]]:
    """The body's octets, at most `most` (by default MAX_REQUEST_BYTES), and the object they say.

    An empty body is an empty object. Raises ApiError 400, 413 and 415 (an unknown content type).
    """
    most = most or settings.MAX_REQUEST_BYTES
    check_length(request, most)
    is_chunked = "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
    if request.content_type == "multipart/form-data":  # Django may have parsed it while it looked for a CSRF token
        raise ApiError(415, UNSUPPORTED)
    raw = _read_chunked(request, most) if is_chunked else _read_announced(request)
    if not raw:
        return raw, {}
    match request.content_type:
        case "application/json":
            return raw, parse_json(raw)
        case "application/x-www-form-urlencoded":
            return raw, parse_form(raw)
        case _:
            raise ApiError(415, UNSUPPORTED)


def _read_announced(request: HttpRequest) -> bytes:
    """A body whose length has been looked at; Django's own limit is that of ordinary requests."""
    if hasattr(request, "_body") or int(request.META.get("CONTENT_LENGTH") or 0) <= settings.MAX_REQUEST_BYTES:
        return request.body
    try:
        return request.read()
    except OSError:  # gone
        raise ApiError(400, CUT_OFF) from None


def _read_chunked(request: HttpRequest, most: int) -> bytes:
    """A chunked body, for which Django itself gives no octets; the server has to say that its stream ends (gunicorn's)."""
    if not (isinstance(request, WSGIRequest) and request.environ.get("wsgi.input_terminated")):
        raise ApiError(411, "A Content-Length is required.")
    try:
        raw: bytes = request.environ["wsgi.input"].read(most + 1)
    except (OSError, ParseException):  # gone, or no valid chunks
        raise ApiError(400, CUT_OFF) from None
    if len(raw) > most:
        raise ApiError(413, TOO_LARGE)
    return raw
