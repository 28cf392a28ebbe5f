"""`/inbound-domains`, `/inbound-routes` and `/inbound`: what a project receives."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import AuditEntry
from sending.inbound.read import Reader
from sending.inbound.routing.examine import Examiner
from sending.models import InboundMail, InboundRoute, ReceivedMail
from tests.projects.conftest import published  # noqa: F401 — a fixture
from tests.sending.api.conftest import Api
from tests.sending.inbound.reports import came

pytestmark = pytest.mark.django_db

NAME = "in.shop.example.test"
MAIL = (
    b"From: Dora <dora@example.test>\r\nSubject: Hi\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Disposition: attachment; filename=\"a\xc3\xa4.html\"\r\n\r\n"
    b"<script>alert(1)</script>\r\n--b--\r\n"
)  # fmt: skip


@pytest.fixture
def receiving(api: Api) -> Api:
    """A client of a project that receives."""
    assert api.post("/inbound-domains", {"domain": NAME}).status_code == 200
    assert api.post("/inbound-routes", {"address": f"support*@{NAME}"}).status_code == 200
    return api


def received(receiving: Api, octets: bytes = MAIL) -> int:
    came(f"support+1@{NAME}", octets=octets, mail_from="dora@example.test")
    Reader().look()
    Examiner().look()
    return int(ReceivedMail.objects.order_by("-id")[0].pk)


def test_domains_are_added_shown_and_deleted(api: Api) -> None:
    made = api.post("/inbound-domains", {"domain": NAME.upper(), "catch_all": True}).json()
    assert made["domain"] == NAME
    assert made["mx"] == {"type": "MX", "host": NAME, "value": "10 relay.test."}
    assert (made["mx_checked_at"], made["is_mx_found"], made["mx_error_message"]) == (None, None, None)
    assert [route["address"] for route in api.get("/inbound-routes").json()] == [f"*@{NAME}"]
    assert api.get("/inbound-domains").json() == [made]
    assert api.get(f"/inbound-domains/{made['id']}").json() == made
    assert api("DELETE", f"/inbound-domains/{made['id']}").json() == []
    assert api.get("/inbound-domains").json() == api.get("/inbound-routes").json() == []
    kinds = AuditEntry.objects.filter(action__startswith="receiving_domain.").order_by("id")
    assert [entry.action for entry in kinds] == ["receiving_domain.added", "receiving_domain.removed"]


def test_the_mx_record_is_asked_for(receiving: Api, published: dict[str, list[str]]) -> None:  # noqa: F811
    published[f"MX {NAME}"] = ["10 relay.test."]
    domain_id = receiving.get("/inbound-domains").json()[0]["id"]
    assert receiving.post(f"/inbound-domains/{domain_id}/check").json()["is_mx_found"] is True


def test_routes_are_made_changed_and_deleted(receiving: Api) -> None:
    body = {"address": f"No-*@{NAME}", "priority": 5, "action": "reject", "description": "Nobody", "is_enabled": False}
    made = receiving.post("/inbound-routes", body).json()
    assert {name: made[name] for name in body} == {**body, "address": f"no-*@{NAME}"}
    changed = receiving("PATCH", f"/inbound-routes/{made['id']}", {"action": "drop", "priority": 0}).json()
    assert changed == {**made, "action": "drop", "priority": 0}
    assert [route["address"] for route in receiving.get("/inbound-routes").json()] == [
        f"support*@{NAME}",
        f"no-*@{NAME}",
    ]
    domain_id = receiving.get("/inbound-domains").json()[0]["id"]
    assert len(receiving.get(f"/inbound-routes?domain_id={domain_id}").json()) == 2
    assert receiving.get(f"/inbound-routes?domain_id={domain_id + 1}").json() == []
    assert receiving("DELETE", f"/inbound-routes/{made['id']}").json() == []
    assert not InboundRoute.objects.filter(pk=made["id"]).exists()


def test_a_route_forwards_to_addresses(receiving: Api) -> None:
    body = {"address": f"team@{NAME}", "action": "forward", "forward_to": ["a@other.example", "b@other.example"]}
    made = receiving.post("/inbound-routes", body).json()
    assert {name: made[name] for name in body} == body
    changed = receiving("PATCH", f"/inbound-routes/{made['id']}", {"forward_to": ["c@other.example"]}).json()
    assert changed == {**made, "forward_to": ["c@other.example"]}
    assert receiving("PATCH", f"/inbound-routes/{made['id']}", {"action": "event"}).json()["forward_to"] == []
    for value, field in (
        ([], "forward_to"), (["x"], "forward_to[0]"), ([5], "forward_to[0]"), ("a@b.test", "forward_to"),
        (["a@b.test"] * 11, "forward_to"), (["\0@b.test"], "forward_to[0]"), (["a\ud800@b.test"], "forward_to[0]"),
        ([f"team@{NAME}"], "forward_to[0]"),
    ):  # fmt: skip
        answer = receiving("PATCH", f"/inbound-routes/{made['id']}", {"action": "forward", "forward_to": value})
        assert answer.status_code in (400, 422)
        assert answer.status_code == 400 or list(answer.json()["errors"]) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("address", ""), ("address", 5), ("address", "a\0@x.test"), ("address", "x"), ("address", "a@other.test"),
        ("address", f"support*@{NAME}"), ("priority", -1), ("priority", 10**30),
        ("priority", "1"), ("priority", True), ("action", "keep"), ("action", 1), ("description", "x" * 256),
        ("description", "\0"), ("is_enabled", "yes"),
    ],
)  # fmt: skip
def test_a_bad_route_is_refused_with_its_field(receiving: Api, field: str, value: Any) -> None:
    good = {"address": f"sales@{NAME}"}
    answer = receiving.post("/inbound-routes", {**good, field: value})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]
    made = receiving.post("/inbound-routes", good).json()
    assert receiving("PATCH", f"/inbound-routes/{made['id']}", {field: value}).status_code == 422


@pytest.mark.parametrize("name", ["", 5, None, "x", "example.test", "relay.test", "a\0.test", NAME])
def test_a_bad_domain_is_refused_with_its_field(receiving: Api, name: Any) -> None:
    answer = receiving.post("/inbound-domains", {"domain": name})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["domain"]


def test_a_mail_is_listed_and_read(receiving: Api, published: dict[str, list[str]]) -> None:  # noqa: F811
    first, second = received(receiving), received(receiving)
    rows = receiving.get("/inbound").json()
    assert [row["id"] for row in rows] == [second, first]
    assert [row["id"] for row in receiving.get(f"/inbound?limit=1&before_id={second}").json()] == [first]
    assert receiving.get(f"/inbound?route_id={rows[0]['route_id'] + 1}").json() == []
    whole = receiving.get(f"/inbound/{first}").json()
    assert {name: whole[name] for name in rows[1]} == rows[1]
    assert whole["envelope"] == {"from": "dora@example.test", "to": [f"support+1@{NAME}"]}
    assert whole["message"]["text"] == "Hello"
    assert whole["headers"][0] == ["From", "Dora <dora@example.test>"]
    assert [(one["id"], one["name"]) for one in whole["message"]["attachments"]] == [(1, "aä.html")]


def test_the_source_and_files_come_as_files(receiving: Api, published: dict[str, list[str]]) -> None:  # noqa: F811
    """What a stranger sent runs nowhere."""
    mail_id = received(receiving)
    source = receiving.get(f"/inbound/{mail_id}/raw")
    assert (source.status_code, source.content) == (200, MAIL)
    assert source["Content-Disposition"].startswith("attachment")
    file = receiving.get(f"/inbound/{mail_id}/attachments/1")
    assert (file.content, file["Content-Type"]) == (b"<script>alert(1)</script>", "application/octet-stream")
    assert file["Content-Disposition"].startswith("attachment")
    assert "sandbox" in file["Content-Security-Policy"]
    for number, status in (("2", 404), ("0", 404), ("x", 400), ("9" * 30, 404)):
        assert receiving.get(f"/inbound/{mail_id}/attachments/{number}").status_code == status
    InboundMail.objects.all().delete()
    assert receiving.get(f"/inbound/{mail_id}/raw").status_code == 404
    assert receiving.get(f"/inbound/{mail_id}").json()["message"] is None


def test_tenants_see_nothing_of_each_other(
    receiving: Api,
    foreign_api: Api,
    published: dict[str, list[str]],  # noqa: F811
) -> None:
    mail_id = received(receiving)
    domain_id, route_id = (receiving.get(path).json()[0]["id"] for path in ("/inbound-domains", "/inbound-routes"))
    assert foreign_api.post("/inbound-domains", {"domain": NAME}).status_code == 422
    for path in ("/inbound", "/inbound-domains", "/inbound-routes"):
        assert foreign_api.get(path).json() == []
    for path in (f"/inbound-routes?domain_id={domain_id}", f"/inbound?route_id={route_id}"):
        assert foreign_api.get(path).status_code == 403
    for method, path, status in (
        ("GET", f"/inbound/{mail_id}", 403), ("GET", f"/inbound/{mail_id}/raw", 403),
        ("GET", f"/inbound/{mail_id}/attachments/1", 403), ("GET", f"/inbound-domains/{domain_id}", 403),
        ("DELETE", f"/inbound-domains/{domain_id}", 403), ("POST", f"/inbound-domains/{domain_id}/check", 403),
        ("GET", f"/inbound-routes/{route_id}", 403), ("PATCH", f"/inbound-routes/{route_id}", 403),
        ("DELETE", f"/inbound-routes/{route_id}", 403),
    ):  # fmt: skip
        assert foreign_api(method, path).status_code == status, path
    assert foreign_api.post("/inbound-routes", {"address": f"a@{NAME}"}).status_code == 422


def test_scopes_are_asked_for(receiving: Api, keyed: Callable[..., Api]) -> None:
    reads, other = keyed("inbound.read"), keyed("sends.read", "domains.write")
    for path in ("/inbound", "/inbound-domains", "/inbound-routes"):
        assert reads.get(path).status_code == 200
        assert other.get(path).status_code == 403
    assert reads.post("/inbound-domains", {"domain": NAME}).status_code == 403
    assert reads.post("/inbound-routes", {"address": f"a@{NAME}"}).status_code == 403


@pytest.mark.parametrize("query", ["limit=0", "before_id=x", "route_id=1.5", "limit=" + "9" * 30])
def test_a_bad_query_is_refused(receiving: Api, query: str) -> None:
    assert receiving.get(f"/inbound?{query}").status_code in (400, 422)
