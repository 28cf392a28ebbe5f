"""Whatever is sent to the API of this floor, the answer is a refusal of the one shape and never a 500."""

import json
import re

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from projects.models import ApiKey, Domain, Membership, Project
from projects.urls import urlpatterns
from tests.projects.conftest import Api

pytestmark = pytest.mark.django_db

ROUTES = [
    ("POST", "/domains"),
    ("DELETE", "/domains"),
    ("GET", "/domains/by"),
    ("POST", "/domains/verify"),
    ("POST", "/api-keys"),
    ("PATCH", "/api-keys/{key}"),
    ("PATCH", "/project"),
    ("POST", "/project-users"),
    ("PATCH", "/project-users/{member}"),
]
KEY_FIELDS = ("name", "scopes", "role", "allowed_ips", "is_enabled", "expires_at")
KNOWN = {
    "/domains": ("domain", "dkim_selector", "dkim_private_key"),
    "/domains/by": ("id", "domain"),
    "/domains/verify": ("id", "domain"),
    "/api-keys": KEY_FIELDS,
    "/api-keys/{key}": KEY_FIELDS,
    "/project": ("name",),
    "/project-users": ("user_id", "scopes", "role"),
    "/project-users/{member}": ("scopes", "role"),
}
FIELDS = sorted({"id", *(field for fields in KNOWN.values() for field in fields)})
RAW = [
    b"\xff\xfe",
    b"{",
    b"[]",
    b"null",
    b'"\\ud800"',
    b'{"a":' * 3000,
    b"\0",
    b"",
    b'{"id": 1e400}',
    b'{"\xc3\x28": 1}',
]
VALUES = [None, "", " ", "\0", "a\0b", "x" * 100_000, 0, -1, 2**31, 2**63, 2**70, -(2**64), 1.5, 1e308, True, [], [[]],
          ["\0"], [None], {}, {"a": {}}, "\u202e", "١", "'; --", "%00", "🦄"]  # fmt: skip


def is_refusal(answer: tuple[int, dict]) -> bool:
    status, body = answer
    return 400 <= status < 500 and body["status"] == status and isinstance(body["message"], str)


@pytest.fixture
def untouched(api: Api, project: Project, domain: Domain) -> dict[str, str]:
    """What the paths need, and a look afterwards that nothing was stored by halves."""
    return {"key": str(ApiKey.objects.get().pk), "member": str(Membership.objects.filter(project=project)[1].pk)}


@pytest.mark.parametrize("raw", RAW)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_bodies_that_are_no_objects_are_refused(api, untouched, method, path, raw):
    answer = api(method, path.format(**untouched), raw)
    unchanged = method == "PATCH" and raw == b"" and "users" not in path  # a partial update that says nothing
    assert is_refusal(answer) != unchanged
    assert (Domain.objects.count(), ApiKey.objects.count(), Membership.objects.count()) == (1, 1, 2)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_values_of_the_wrong_kind_are_refused_or_mean_nothing(api, untouched, method, path):
    for field in KNOWN[path]:
        for value in VALUES:
            status, body = api(method, path.format(**untouched), {field: value})
            assert status < 500, (field, value, body)
            if status == 422:
                named = {violation["property"].partition("[")[0] for violation in body["violations"]}
                assert named <= set(FIELDS), body
    assert (Domain.objects.count(), Membership.objects.count()) == (1, 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(st.sampled_from(ROUTES), st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_no_body_breaks_anything(api, untouched, route, body):
    status, answer = api(route[0], route[1].format(**untouched), json.dumps(body).encode())
    assert status < 500, answer


@pytest.mark.parametrize(
    "query",
    [
        "?id=%00",
        "?domain=%00",
        "?domain=%ff%fe",
        "?id[]=1",
        "?id=1&id=x",
        "?domain=" + "x" * 3000,
        "?%ff=%fe",
        "?id=1e3",
    ],
)
def test_odd_queries_are_refused(api, domain, query):
    assert is_refusal(api.get(f"/domains/by{query}"))
    assert is_refusal(api.delete(f"/domains{query}"))
    assert api.get(f"/domains{query}")[0] == 200, "a list knows none of these parameters"


def test_forms_are_no_back_door(api, domain):
    form = "application/x-www-form-urlencoded"
    for body in (b"domain[]=a.test", b"domain=%00", b"id=x", b"id[]=1", b"id=" + b"9" * 40, b"%ff=%fe", b"=&&="):
        assert is_refusal(api("GET", "/domains/by", body, content_type=form))
    assert api("GET", "/domains/by", f"id={domain.pk}".encode(), content_type=form)[0] == 200


def test_every_route_answers_an_unknown_caller_with_the_one_shape(client):
    for pattern in urlpatterns:
        path = re.sub(r"<\w+:\w+>", "1", str(pattern.pattern))
        response = client.get(f"/api/console/{path}")
        assert (response.status_code, response.json()["message"]) == (401, "Unauthorized")
