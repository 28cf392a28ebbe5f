"""web.json and web.errors through a DRF view of their own."""

import json

import pytest
import structlog
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from relay_project.web.errors import INTERNAL, ApiError, Violation, Violations

requests = APIRequestFactory()


class Echo(APIView):
    """Answers with what it was sent, or raises what the test says."""

    authentication_classes = ()
    permission_classes = ()
    error: Exception | None = None

    def post(self, request: Request) -> Response:
        if self.error:
            raise self.error
        return Response(request.data)


def post(body: bytes, content_type: str = "application/json", error: Exception | None = None, **headers: str):
    request = requests.generic("POST", "/api/echo", body, content_type=content_type, headers=headers)
    response = Echo.as_view(error=error)(request).render()
    return response.status_code, json.loads(response.content)


def test_a_json_object_comes_back_as_json():
    assert post(b'{"a": "\xc3\xbc"}') == (200, {"a": "ü"})
    assert post(b'{"a": 1}', "application/json; charset=utf-8") == (200, {"a": 1})


def test_the_accept_header_changes_nothing():
    assert post(b"{}", accept="text/html, image/png;q=0.1") == (200, {})


@pytest.mark.parametrize("body", [b"{", b"\xff", b'"\xed\xa0\x80"', b'{"a": "\\ud800"}', b'{"a": NaN}', b"[" * 5000])
def test_bad_json_is_refused(body):
    assert post(body) == (400, {"message": 'Request payload contains invalid "json" data.', "status": 400})


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null"])
def test_json_that_is_no_object_is_refused(body):
    assert post(body) == (400, {"message": "Request payload must be a JSON object.", "status": 400})


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/xml", "multipart/form-data", "nonsense"])
def test_other_content_types_are_refused(content_type):
    assert post(b"{}", content_type) == (415, {"message": "Unsupported format.", "status": 415})


def test_an_empty_body_is_an_empty_object():
    assert post(b"", "") == (200, {})


def test_form_bodies_are_read_with_lists():
    form = "application/x-www-form-urlencoded"
    assert post(b"a=1&b[]=x&b[]=y&a=2", form) == (200, {"a": "2", "b": ["x", "y"]})
    assert post(b"a=\xff", form)[0] == 400


def test_a_body_over_the_limit_is_refused(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert post(b'{"a": "01234567890"}') == (413, {"message": "The request is too large.", "status": 413})
    assert post(b"a=01234567890", "application/x-www-form-urlencoded")[0] == 413


def test_too_many_form_fields_are_refused(settings):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    assert post(b"a=1&b=2&c=3", "application/x-www-form-urlencoded")[0] == 400


def test_an_unknown_method_is_refused_in_our_shape():
    response = Echo.as_view()(requests.put("/api/echo")).render()
    assert response.status_code == 405
    assert response["Allow"] == "POST, OPTIONS"
    assert json.loads(response.content) == {"message": "Method not allowed.", "status": 405}


def test_violations_speak_both_dialects():
    error = Violations([Violation("to", "A"), Violation("scopes[0]", "B"), Violation("to", "C")])
    assert post(b"{}", error=error) == (
        422,
        {
            "message": "to: A",
            "status": 422,
            "violations": [
                {"property": "to", "message": "A"},
                {"property": "scopes[0]", "message": "B"},
                {"property": "to", "message": "C"},
            ],
            "errors": {"to": ["A", "C"], "scopes[0]": ["B"]},
        },
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [(Http404(), 404), (PermissionDenied(), 403), (ApiError(409, "No."), 409), (OperationalError("gone"), 503)],
)
def test_every_exception_has_a_status(error, status):
    got, body = post(b"{}", error=error)
    assert (got, body["status"]) == (status, status)


def test_a_refusal_may_carry_data():
    body = post(b"{}", error=ApiError(401, "Unauthorized", {"login_url": "/sign-in"}))[1]
    assert body == {"message": "Unauthorized", "status": 401, "data": {"login_url": "/sign-in"}}


def test_a_crash_is_logged_with_its_traceback_and_tells_a_stranger_nothing():
    with structlog.testing.capture_logs() as lines:
        answer = post(b'{"key": "0123456789abcdef"}', error=ZeroDivisionError("division by zero"))
    assert answer == (500, {"message": INTERNAL, "status": 500})
    (line,) = lines
    assert line["event"] == "api.crashed"
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert "0123456789abcdef" not in repr(line)
