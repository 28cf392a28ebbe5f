"""Webhooks over the API: made, changed, deleted, their secrets, what was sent to them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from projects.event_registry import kinds_for
from projects.models import Event
from relay_project.db.ids import id_floor
from webhooks.models import Webhook, WebhookDelivery
from webhooks.signature import standard_secret

pytestmark = pytest.mark.django_db
URL = "https://shop.example.test/relay"
UNTOUCHED = {
    "previous_secret_until": None,
    "headers": {},
    "tags": [],
    "domains": [],
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
    "held_until": None,
}
HIDDEN = {"secret": None, "standard_secret": None}
KINDS = [kind.value for kind in kinds_for(is_system=False)]


@pytest.fixture
def made(api):
    """A webhook of the project, as the answer that made it shows it."""
    status, shown = api.post("/webhooks", {"url": URL, "events": ["domain.created"], "description": "Shop"})
    assert status == 200
    return shown


def delivery(project, webhook_id, at=None, **fields):
    about = {"event_id": 1, "event": "domain.created", "url": URL, "request_body": '{"event": "domain.created"}'}
    about |= {"pk": id_floor(at) + webhook_id} if at else {}
    return WebhookDelivery.objects.create(project_id=project.pk, webhook_id=webhook_id, **{**about, **fields})


def test_a_webhook_is_made_with_a_secret_of_32_hexadecimal_characters(api, made, project):
    webhook = Webhook.objects.get()
    assert made == {
        "id": webhook.pk,
        "url": URL,
        "description": "Shop",
        "events": ["domain.created"],
        "secret": webhook.secret,
        "standard_secret": standard_secret(webhook.secret),
        **UNTOUCHED,
        "is_enabled": True,
        "created_at": int(webhook.created_at.timestamp()),
    }
    assert len(made["secret"]) == 32
    assert int(made["secret"], 16) >= 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM webhooks_webhook")
        assert made["secret"] not in cursor.fetchone()[0], "encrypted at rest"
    entry = AuditEntry.objects.get(action="webhook.created")
    assert (entry.project_id, entry.detail) == (project.pk, {"url": URL, "events": ["domain.created"]})
    assert made["secret"] not in str(entry.detail)


def test_the_secret_is_shown_once(api, made):
    """Lesson S10: it was shown again by every GET."""
    assert api.get("/webhooks") == (200, [{**made, **HIDDEN}])
    assert api.get(f"/webhooks/{made['id']}") == (200, {**made, **HIDDEN})
    assert api.patch(f"/webhooks/{made['id']}", {"description": "x"})[1]["secret"] is None


def test_another_secret_is_shown_once_too(api, made):
    status, shown = api.post(f"/webhooks/{made['id']}/rotate-secret")
    assert status == 200
    assert shown["secret"] not in (None, made["secret"])
    assert Webhook.objects.get().secret == shown["secret"]
    assert AuditEntry.objects.filter(action="webhook.secret_rotated").count() == 1


@pytest.mark.parametrize("description", [None, "", "Shop"])
def test_a_description_may_be_left_out(api, description):
    """The contract's server answered 500 without one."""
    said = {} if description is None else {"description": description}
    status, shown = api.post("/webhooks", {"url": URL, "events": KINDS, **said})
    assert (status, shown["description"]) == (200, description)
    assert api.post("/webhooks", {"url": URL, "events": KINDS, "description": None})[0] == 200


@pytest.mark.parametrize(
    ("body", "property_"),
    [
        ({"events": ["domain.created"]}, "url"),
        ({"url": URL}, "events"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["domain.created", "nonsense"]}, "events[1]"),
        ({"url": URL, "events": "domain.created"}, "events"),
        ({"url": URL, "events": [1]}, "events[0]"),
        ({"url": 7, "events": KINDS}, "url"),
        ({"url": f"https://a.test/{'x' * 255}", "events": KINDS}, "url"),
        ({"url": "shop.example.test", "events": KINDS}, "url"),
        ({"url": URL, "events": KINDS, "description": "x" * 1025}, "description"),
    ],
)
def test_what_is_wrong_is_named(api, body, property_):
    status, answer = api.post("/webhooks", body)
    assert (status, [v["property"] for v in answer["violations"]]) == (422, [property_])
    assert not Webhook.objects.exists()


def test_every_kind_of_event_can_be_asked_for_once(api):
    status, shown = api.post("/webhooks", {"url": URL, "events": [*reversed(KINDS), *KINDS]})
    assert (status, shown["events"]) == (200, KINDS)


def test_an_update_changes_what_it_names(api, made):
    path = f"/webhooks/{made['id']}"
    assert api.patch(path, {})[1] == {**made, **HIDDEN}
    status, shown = api.patch(path, {"is_enabled": False, "events": ["domain.deleted"]})
    disabled = {"is_enabled": False, "disabled_at": shown["disabled_at"], "disabled_reason": "by hand"}
    assert (status, shown) == (200, {**made, **HIDDEN, **disabled, "events": ["domain.deleted"]})
    assert AuditEntry.objects.get(action="webhook.changed").detail == {"events": ["domain.deleted"]}
    assert AuditEntry.objects.get(action="webhook.disabled").detail == {"reason": "by hand"}
    [event] = Event.objects.filter(kind="webhook.disabled")
    assert (event.subject_id, event.payload["reason"]) == (made["id"], "by hand")
    whole = {"url": "http://hooks.example.test/", "description": "", "events": KINDS}
    assert api.patch(path, whole)[1] == {**made, **HIDDEN, **disabled, **whole}
    assert api.patch(path, {"description": None})[1]["description"] is None


def test_an_update_with_nonsense_changes_nothing(api, made):
    path = f"/webhooks/{made['id']}"
    for body in ({"url": ""}, {"url": "ftp://a.test"}, {"events": []}, {"events": ["x"]}, {"is_enabled": "no"}):
        assert api.patch(path, body)[0] == 422, body
    assert api.get(path)[1] == {**made, **HIDDEN}


def test_a_deleted_webhook_is_gone_and_its_deliveries_stay(api, made, project):
    delivery(project, made["id"])
    assert api.delete(f"/webhooks/{made['id']}") == (200, [])
    assert api.get("/webhooks") == (200, [])
    assert api.delete(f"/webhooks/{made['id']}")[0] == 404
    assert len(api.get("/webhooks/deliveries")[1]) == 1
    assert AuditEntry.objects.get(action="webhook.deleted").detail == {"url": URL}


def test_there_is_a_limit(api, settings):
    settings.MAX_WEBHOOKS = 2
    for _ in range(2):
        assert api.post("/webhooks", {"url": URL, "events": KINDS})[0] == 200
    status, body = api.post("/webhooks", {"url": URL, "events": KINDS})
    assert (status, body["message"]) == (400, "You have reached the maximum number of webhooks for this project.")


def test_other_tenants_see_and_change_nothing(foreign_api, made, project):
    delivery(project, made["id"])
    assert foreign_api.get("/webhooks") == (200, [])
    assert foreign_api.get("/webhooks/deliveries") == (200, [])
    assert foreign_api.get(f"/webhooks/deliveries?webhook_id={made['id']}")[0] == 403
    path = f"/webhooks/{made['id']}"
    for method, where in (("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate-secret")):
        assert foreign_api(method, where, {})[1]["message"] == "Entity does not belong to the project"
    assert Webhook.objects.get().secret == made["secret"]


def test_scopes_are_asked_for(keyed, made):
    reader, nobody = keyed("webhooks.read"), keyed("domains.read")
    path = f"/webhooks/{made['id']}"
    assert reader.get("/webhooks")[0] == reader.get("/webhooks/deliveries")[0] == 200
    for method, where in (("POST", "/webhooks"), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate-secret")):
        assert reader(method, where, {})[0] == 403
        assert nobody(method, where, {})[0] == 403
    assert nobody.get("/webhooks")[0] == 403


def test_deliveries_are_the_contracts_objects(api, made, project):
    row = delivery(project, made["id"], status="failed", response="no", response_code=500, try_count=7)
    status, (shown,) = api.get("/webhooks/deliveries")
    assert (status, shown) == (
        200,
        {
            "id": row.pk,
            "created_at": shown["created_at"],
            "webhook_id": made["id"],
            "url": URL,
            "event": "domain.created",
            "status": "failed",
            "response": "no",
            "response_code": 500,
            "try_count": 7,
            "request_body": '{"event": "domain.created"}',
            "event_id": "1",
            "kind": "event",
            "next_try_at": None,
            "tries": [],
        },
    )
    assert abs(shown["created_at"] - datetime.now(UTC).timestamp()) < 60


def test_deliveries_are_paged(api, made, project):
    """Lesson P9: all fourteen days came in one answer."""
    rows = [delivery(project, made["id"] + number % 2) for number in range(5)]
    ids = [row.pk for row in reversed(rows)]
    first = [shown["id"] for shown in api.get("/webhooks/deliveries?limit=2")[1]]
    then = [shown["id"] for shown in api.get(f"/webhooks/deliveries?limit=9&before_id={first[-1]}")[1]]
    assert first + then == ids
    mine = api.get(f"/webhooks/deliveries?webhook_id={made['id']}")[1]
    assert [shown["id"] for shown in mine] == ids[::2]
    for query, refused in (("limit=0", 422), ("limit=1001", 422), ("limit=x", 400), ("webhook_id=x", 400)):
        assert api.get(f"/webhooks/deliveries?{query}")[0] == refused


def test_deliveries_are_read_within_the_days_that_are_kept(api, made, project, settings, old_days):
    now = datetime.now(UTC)
    old_days((now - timedelta(days=20)).date())
    delivery(project, made["id"], at=now - timedelta(days=20))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert api.get("/webhooks/deliveries") == (200, [])
    assert any('"webhooks_webhookdelivery"."id" >=' in query["sql"] for query in asked)


def test_ids_that_are_none_are_refused(api):
    for bad, status in (("x", 400), ("0", 404), (str(2**70), 404), ("999", 404)):
        assert api.get(f"/webhooks/{bad}")[0] == status
        assert api.patch(f"/webhooks/{bad}", {})[0] == status
