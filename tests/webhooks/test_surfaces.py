"""What people do with webhooks over the API: headers and filters, two secrets, tests, telling again."""

import json
from datetime import UTC, datetime

import pytest

from accounts.models import AuditEntry
from webhooks.models import Webhook, WebhookDelivery, WebhookReplay, WebhookWaiting
from webhooks.options import MAX_HEADERS, RESERVED
from webhooks.subscriptions import headers_of

pytestmark = pytest.mark.django_db
URL = "https://shop.example.test/relay"
NEW = {"url": URL, "events": ["domain.created"]}


@pytest.fixture
def path(api):
    """Of a webhook of the project."""
    status, shown = api.post("/webhooks", NEW)
    assert status == 200
    return f"/webhooks/{shown['id']}"


def delivery(project, path, **fields):
    about = {"event_id": 7, "event": "domain.created", "url": URL, "request_body": '{"event": "domain.created"}'}
    return WebhookDelivery.objects.create(
        project_id=project.pk, webhook_id=int(path.rpartition("/")[2]), **{**about, **fields}
    )


# --- Headers and filters -------------------------------------------------------------------------------------------


def test_values_of_headers_are_not_shown_and_stay_where_null_is_said(api):
    wanted = {"Authorization": "Bearer s3cret", "X-Shop": "7"}
    status, made = api.post("/webhooks", {**NEW, "headers": wanted, "tags": ["a", "a"], "domains": ["SHOP.example"]})
    assert (status, made["headers"], made["tags"]) == (200, {"Authorization": None, "X-Shop": None}, ["a"])
    assert made["domains"] == ["shop.example"]
    path = f"/webhooks/{made['id']}"
    assert api.patch(path, {"headers": {"Authorization": None, "X-Other": "8"}})[1]["headers"] == {
        "Authorization": None,
        "X-Other": None,
    }
    assert headers_of(Webhook.objects.get()) == {"Authorization": "Bearer s3cret", "X-Other": "8"}
    assert "s3cret" not in json.dumps(list(AuditEntry.objects.values_list("detail", flat=True)))
    assert api.patch(path, {"headers": {}, "tags": [], "domains": []})[1]["headers"] == {}
    assert Webhook.objects.get().headers is None


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("headers", {"Bad Name": "x"}, "headers[Bad Name]"),
        ("headers", {"X-A": "a\r\nX-B: b"}, "headers[X-A]"),
        ("headers", {"X-A": "\x00"}, "headers[X-A]"),
        ("headers", {"X-A": "ü"}, "headers[X-A]"),
        ("headers", {"X-A": ""}, "headers[X-A]"),
        ("headers", {"X-A": 7}, "headers[X-A]"),
        ("headers", {"X-A": None}, "headers[X-A]"),
        ("headers", {"X-A": "1", "x-a": "2"}, "headers[x-a]"),
        ("headers", {"Webhook-Id": "x"}, "headers[Webhook-Id]"),
        ("headers", {"": "x"}, "headers[]"),
        ("headers", {"X" * 101: "x"}, f"headers[{'X' * 100}]"),
        ("headers", {"X-A": "x" * 1001}, "headers[X-A]"),
        ("headers", {f"X-{n}": "x" for n in range(MAX_HEADERS + 1)}, "headers"),
        ("headers", ["X-A: 1"], "headers"),
        ("tags", ["x" * 65], "tags[0]"),
        ("tags", [""], "tags[0]"),
        ("tags", ["a\nb"], "tags[0]"),
        ("tags", [str(n) for n in range(21)], "tags"),
        ("tags", "a", "tags"),
        ("domains", ["shop.example", "no domain"], "domains[1]"),
        ("domains", [7], "domains[0]"),
    ],
)
def test_bad_headers_and_filters_are_named(api, path, field, value, named):
    for status, body in (api.post("/webhooks", {**NEW, field: value}), api.patch(path, {field: value})):
        assert (status, body["violations"][0]["property"]) == (422, named)
    assert Webhook.objects.count() == 1


def test_headers_that_are_ours_or_the_connections_are_refused(api, path):
    for name in RESERVED:
        assert api.patch(path, {"headers": {name.title(): "x"}})[0] == 422, name


# --- Two secrets ---------------------------------------------------------------------------------------------------


def test_the_former_secret_signs_for_the_overlap(api, path):
    before = Webhook.objects.get().secret
    status, shown = api.post(f"{path}/rotate-secret", {"overlap_hours": 24})
    webhook = Webhook.objects.get()
    assert (status, webhook.previous_secret, webhook.secret) == (200, before, shown["secret"])
    assert abs(shown["previous_secret_until"] - datetime.now(UTC).timestamp() - 24 * 3600) < 60
    assert shown["standard_secret"].startswith("whsec_")
    assert api.post(f"{path}/rotate-secret")[1]["previous_secret_until"] is None
    assert Webhook.objects.get().previous_secret is None
    for hours in (-1, 10**6, "x", 1.5):
        assert api.post(f"{path}/rotate-secret", {"overlap_hours": hours})[0] == 422, hours


# --- Tests and telling again ---------------------------------------------------------------------------------------


def test_a_test_is_a_delivery_with_an_example(api, path):
    status, plain = api.post(f"{path}/test")
    assert (status, plain["kind"], plain["status"], plain["event"]) == (200, "test", "pending", "test")
    status, example = api.post(f"{path}/test", {"event": "send.recipient.bounced"})
    body = json.loads(example["request_body"])
    assert (body["event"], body["test"], set(body["payload"])) == (
        "send.recipient.bounced", True, {"send", "recipient", "attempt"},
    )  # fmt: skip
    assert WebhookWaiting.objects.count() == 2
    assert AuditEntry.objects.filter(action="webhook.tested").count() == 2
    for bad in ("nonsense", 7, ["x"]):
        assert api.post(f"{path}/test", {"event": bad})[0] == 422


def test_a_delivery_is_sent_again_with_its_body_and_its_events_id(api, path, project):
    row = delivery(project, path, status="failed", try_count=7)
    status, made = api.post(f"/webhooks/deliveries/{row.pk}/retry")
    assert (status, made["kind"], made["status"], made["event_id"]) == (200, "replay", "pending", "7")
    assert (made["request_body"], made["id"] != row.pk) == (row.request_body, True)
    assert api.get(f"/webhooks/deliveries/{made['id']}") == (200, made)
    assert api.patch(path, {"is_enabled": False})[0] == 200
    status, body = api.post(f"/webhooks/deliveries/{row.pk}/retry")
    assert (status, body["message"]) == (400, "The webhook is disabled. Enable it first.")
    assert api.delete(path)[0] == 200
    assert api.post(f"/webhooks/deliveries/{row.pk}/retry")[0] == 404


def test_a_day_is_told_again_by_one_call(api, path):
    end = int(datetime.now(UTC).timestamp())
    begin = end - 86_400
    status, made = api.post(f"{path}/replay", {"begin": begin, "end": end})
    assert (status, made["begin"], made["end"], made["only_failed"]) == (200, begin, end, False)
    assert (made["deliveries"], made["reached"], made["finished_at"]) == (0, begin, None)
    assert api.post(f"{path}/replay", {"only_failed": True})[0] == 200
    assert [row["only_failed"] for row in api.get(f"{path}/replay")[1]] == [True, False]
    assert WebhookReplay.objects.count() == 2


def test_a_replay_says_how_far_it_has_come_and_is_stopped(api, foreign_api, path):
    one = f"{path}/replay/{api.post(f'{path}/replay', {})[1]['id']}"
    assert foreign_api("GET", one)[0] == 403
    assert api.get(one)[1]["finished_at"] is None
    stopped = api.delete(one)[1]
    assert (stopped["finished_at"] is not None, stopped["reached"] < stopped["end"]) == (True, True)
    assert api.delete(one) == api.get(one) == (200, stopped)
    assert AuditEntry.objects.filter(action="webhook.replay_stopped").count() == 1
    assert [api.get(f"{path}/replay/{wrong}")[0] for wrong in ("999999", "x", 2**70)] == [404, 400, 404]


def test_ranges_that_are_none_are_refused(api, path):
    for bad, named in (
        ({"begin": 5, "end": 4}, "end"),
        ({"begin": -1}, "begin"),
        ({"end": 2**62}, "end"),
        ({"end": "x"}, "end"),
        ({"only_failed": "perhaps"}, "only_failed"),
    ):
        status, body = api.post(f"{path}/replay", bad)
        assert (status, body["violations"][0]["property"]) == (422, named), bad


# --- Lists, tenants, scopes ----------------------------------------------------------------------------------------


def test_deliveries_are_found_by_state_and_event(api, path, project):
    delivery(project, path, status="failed")
    other = delivery(project, path, status="delivered", event="domain.deleted")
    found = api.get("/webhooks/deliveries?status=delivered&event=domain.deleted")[1]
    assert [row["id"] for row in found] == [other.pk]
    assert api.get("/webhooks/deliveries?status=pending") == (200, [])
    assert api.get("/webhooks/deliveries?status=nonsense")[0] == 422
    assert api.get("/webhooks/deliveries?event=%00")[0] == 400


def test_nobody_else_reaches_them(foreign_api, keyed, path, project):
    row = delivery(project, path)
    of_delivery = f"/webhooks/deliveries/{row.pk}"
    calls = [("POST", f"{path}/test"), ("POST", f"{path}/replay"), ("POST", f"{of_delivery}/retry")]
    for method, where in (*calls, ("GET", f"{path}/replay"), ("GET", of_delivery)):
        assert foreign_api(method, where, {})[0] == 403, where
    reader = keyed("webhooks.read")
    assert reader.get(of_delivery)[0] == 200
    for method, where in calls:
        assert reader(method, where, {})[0] == 403
    assert WebhookDelivery.objects.count() == 1


def test_deliveries_that_are_no_longer_kept_are_not_found(api):
    assert api.get("/webhooks/deliveries/1")[0] == 404
    assert api.get(f"/webhooks/deliveries/{2**70}")[0] == 404
    assert api.post("/webhooks/deliveries/x/retry")[0] == 400
