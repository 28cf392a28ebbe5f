"""JSON in and out of the API: orjson instead of the standard library, one media type, bodies that are objects."""

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, QueryDict
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from relay_project.web.errors import ApiError

BAD_JSON = 'Request payload contains invalid "json" data.'
NOT_AN_OBJECT = "Request payload must be a JSON object."


class FormData(dict[str, Any]):
    """A form-encoded body: every value in it is text, so the readers of fields take "5" for a number."""


class OrjsonRenderer(BaseRenderer):
    """Writes answers; what orjson cannot write is a programmer's mistake and raises TypeError."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The data as compact UTF-8 JSON."""
        return orjson.dumps(data)


class OrjsonParser(BaseParser):
    """Reads a JSON object of at most DATA_UPLOAD_MAX_MEMORY_SIZE octets."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The object; raises ApiError 400 for anything else and RequestDataTooBig."""
        return parse_json(read_body(stream))


class FormParser(BaseParser):
    """Reads `a=1&b[]=x&b[]=y` as {"a": "1", "b": ["x", "y"]}."""

    media_type = "application/x-www-form-urlencoded"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> FormData:
        """The fields; raises ApiError 400 for what is not UTF-8, TooManyFieldsSent and RequestDataTooBig."""
        return parse_form(read_body(stream))


class JsonAlways(DefaultContentNegotiation):
    """Answers JSON whatever the Accept header says, so that an error is never about the form of an error."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """The first renderer."""
        return renderers[0], renderers[0].media_type


def parse_json(body: bytes) -> dict[str, Any]:
    """The object; raises ApiError 400 for anything else."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ApiError(400, BAD_JSON) from None
    if not isinstance(parsed, dict):
        raise ApiError(400, NOT_AN_OBJECT)
    return parsed


def parse_form(body: bytes) -> FormData:
    """The fields; raises ApiError 400 for what is not UTF-8, and TooManyFieldsSent."""
    try:
        fields = QueryDict(body.decode("utf-8"), encoding="utf-8")
    except UnicodeDecodeError:
        raise ApiError(400, 'Request payload contains invalid "form" data.') from None
    return FormData({name.removesuffix("[]"): _value(name, values) for name, values in fields.lists()})


def accept_chunked(request: HttpRequest) -> None:
    """Make a chunked body readable, which Django takes for an empty one: it knows only Content-Length.

    Only behind a server that ends the stream itself (gunicorn says so); raises RequestDataTooBig.
    """
    if not request.META.get("wsgi.input_terminated") or request.META.get("CONTENT_LENGTH"):
        return
    if request.META.get("HTTP_TRANSFER_ENCODING", "").strip().lower() == "chunked":
        body = read_body(request.META["wsgi.input"])
        request.META["CONTENT_LENGTH"] = str(len(body))
        request._stream = BytesIO(body)  # where Django's request reads from


def read_body(stream: IO[Any]) -> bytes:
    """All of a request's body; raises RequestDataTooBig as Django does for forms, which DRF's stream goes round."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestDataTooBig("The request's body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE.")
    return body


def _value(name: str, values: list[str]) -> str | list[str]:
    return values if name.endswith("[]") else values[-1]
