"""Errors that Django itself raises: under /api in our shape, elsewhere as Django does."""

import pytest
import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.test import Client, RequestFactory

from relay_project.web import errors

client = Client(raise_request_exception=False)


def test_unknown_routes_have_the_error_shape():
    response = client.get("/api/console/no-such-thing?secret=1")
    assert response.status_code == 404
    assert response.json() == {"message": 'No route found for "GET /api/console/no-such-thing".', "status": 404}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_client_with_a_key_learns_of_an_unknown_route_and_not_of_csrf(method):
    strict = Client(enforce_csrf_checks=True)
    response = strict.generic(method, "/api/console/no-such-thing", headers={"Authorization": "Bearer 0123"})
    assert response.status_code == 404
    assert response.json()["message"] == f'No route found for "{method} /api/console/no-such-thing".'


def test_unknown_routes_have_the_error_shape_in_debug_mode(settings):
    settings.DEBUG = True
    assert client.post("/api/nowhere").json()["status"] == 404


@pytest.mark.parametrize("path", ["/api/%00", "/api/%ff%fe", "/api/" + "x" * 5000])
def test_odd_paths_are_only_unknown(path):
    assert client.get(path).json()["status"] == 404


def test_a_wrong_host_is_a_bad_request_in_our_shape():
    response = client.get("/api/health", headers={"host": "evil.test"})
    assert (response.status_code, response.json()) == (400, {"message": "Bad request.", "status": 400})


@pytest.mark.parametrize(("error", "status"), [(RequestDataTooBig("big"), 413), (SuspiciousOperation("odd"), 400)])
def test_suspicious_requests_keep_their_status(error, status):
    response = errors.bad_request(RequestFactory().get("/api/x"), error)
    assert response.status_code == status


def test_pages_keep_pages():
    response = client.get("/no-such-page")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")
    assert errors.server_error(RequestFactory().get("/api/x")).status_code == 500


def test_the_web_process_says_that_it_lives():
    response = client.get("/api/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_request_is_one_log_line_by_route_without_its_query():
    """Lesson S9: neither the query string nor what stands in the path is written down."""
    with structlog.testing.capture_logs() as lines:
        client.get("/api/alice%40example.test?token=0123456789abcdef")
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/<path:rest>", 404)
    assert line["ms"] >= 0
    assert "alice" not in repr(line)
    assert "0123456789abcdef" not in repr(line)


def test_made_up_methods_are_not_written_down():
    with structlog.testing.capture_logs() as lines:
        client.generic("X" * 50, "/api/x")
    assert next(line for line in lines if line["event"] == "request")["method"] == "other"
