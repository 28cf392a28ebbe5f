"""Sends as the API shows them: the list and its filters, one send, its content, whose they are."""

import base64
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from relay_project.db.ids import id_time, uuid_of
from relay_project.db.partitions import Day, make_partition, partitioned_tables
from sending.models import Attempt, AttemptRecipient, Content, Phase, Recipient, Send, Signature, Waiting

pytestmark = pytest.mark.django_db


def ids(response) -> list[int]:
    assert response.status_code == 200, response.content
    return [send["id"] for send in response.json()]


def refused(response) -> tuple[int, str]:
    body = response.json()
    assert body["status"] == response.status_code
    return response.status_code, body["message"]


def an_attempt(send_id: int, **fields) -> Attempt:
    """What the engine writes about a first try that was greylisted."""
    conversation = {
        "start_time": "2026-11-22T12:00:00.000+00:00",
        "duration_ms": 12,
        "network_error": "",
        "steps": [
            {"name": "rcpt", "duration_ms": 3, "command": "RCPT TO:<…>", "reply_code": 450, "reply_text": "Busy"}
        ],
    }
    send = Send.objects.get(pk=send_id)
    values = {
        "project_id": send.project_id,
        "queue_id": send.queue_id,
        "status": "deferred",
        "try_count": 1,
        "domain": "example.test",
        "resolved_mx_hosts": ["mx.example.test"],
        "responded_mx_host": "mx.example.test",
        "smtp_conversations": {"mx.example.test": conversation},
        "duration_ms": 15,
    }
    return Attempt.objects.create(send_id=send_id, **(values | fields))


# --- one send ------------------------------------------------------------------------------------------------------


def test_a_send_has_the_contracts_shape(api):
    send_id = api.send(
        to={"email": "dora@example.test", "name": "Dora"},
        bcc="eve@example.test",
        subject="Hello",
        **{"from": {"email": "shop@shop.example.test", "name": "Shop"}},
    )
    send = Send.objects.get(pk=send_id)
    to, bcc = Recipient.objects.filter(send_id=send_id).order_by("position")
    shown = api.get(f"/sends/{send_id}").json()
    assert api.get(f"/sends/uuid/{send.uuid}").json() == shown
    assert api.get(f"/sends/uuid/{str(send.uuid).upper()}").json() == shown
    assert shown.pop("priority") == "transactional", "our own addition to the contract"
    ours = ("tags", "metadata", "is_test", "forwarded_from")
    assert [shown.pop(name) for name in ours] == [[], {}, False, None], "likewise"
    for recipient in shown["recipients"]:
        reason = recipient.pop("why")  # likewise
        assert reason.keys() == {"kind", "text", "next_at"}
        assert reason["kind"] == "no_source_ip"
    assert shown == {
        "id": send_id,
        "uuid": str(send.uuid),
        "created_at": int(id_time(send_id).timestamp()),
        "from_address": "shop@shop.example.test",
        "from_name": "Shop",
        "subject": "Hello",
        "size_bytes": send.size_bytes,
        "queued": True,
        "send_after": int(Waiting.objects.filter(send_id=send_id).first().due_at.timestamp()),
        "recipients": [
            {
                "id": to.pk,
                "type": "to",
                "address": "dora@example.test",
                "name": "Dora",
                "status": "queued",
                "try_count": 0,
            },
            {
                "id": bcc.pk,
                "type": "bcc",
                "address": "eve@example.test",
                "name": "",
                "status": "queued",
                "try_count": 0,
            },
        ],
        "attempts": [],
        "feedback": [],
    }


def test_attempts_come_newest_first_with_their_conversations(api):
    send_id = api.send()
    recipient = Recipient.objects.get(send_id=send_id)
    first = an_attempt(send_id)
    result = AttemptRecipient.objects.create(
        attempt_id=first.pk,
        send_id=send_id,
        recipient_id=recipient.pk,
        recipient_status="deferred",
        smtp_code=450,
        smtp_enhanced_code="4.2.1",
        smtp_message="Busy",
        category="temporary",
        rule="mailbox-busy",
    )
    second = an_attempt(send_id, try_count=2, status="accepted")
    shown = api.get(f"/sends/{send_id}").json()["attempts"]
    assert [attempt["id"] for attempt in shown] == [second.pk, first.pk]
    assert shown[1] == {
        "id": first.pk,
        "created_at": int(id_time(first.pk).timestamp()),
        "status": "deferred",
        "try_count": 1,
        "domain": "example.test",
        "resolved_mx_hosts": ["mx.example.test"],
        "responded_mx_host": "mx.example.test",
        "smtp_conversations": first.smtp_conversations,
        "tls": None,
        "duration_ms": 15,
        "recipients": [
            {
                "id": result.pk,
                "created_at": int(id_time(result.pk).timestamp()),
                "recipient_id": recipient.pk,
                "recipient_status": "deferred",
                "smtp_code": 450,
                "smtp_enhanced_code": "4.2.1",
                "smtp_message": "Busy",
                "is_suppressed": False,
                "category": "temporary",
                "rule": "mailbox-busy",
            }
        ],
    }
    assert shown[0]["recipients"] == []


def test_an_attempt_that_reached_nobody_shows_why(api):
    send_id = api.send()
    an_attempt(send_id, smtp_conversations={}, responded_mx_host=None, network_error="The sender died.", is_lost=True)
    [attempt] = api.get(f"/sends/{send_id}").json()["attempts"]
    [conversation] = attempt["smtp_conversations"].values()
    assert (conversation["network_error"], conversation["steps"]) == ("The sender died.", [])


def test_queued_is_what_still_waits_and_send_after_the_earliest_of_it(api):
    send_id = api.send(to=["a@x.example.test", "b@y.example.test"])
    first, second = Waiting.objects.filter(send_id=send_id).order_by("recipient_id")
    later = datetime(2026, 12, 1, 12, tzinfo=UTC)
    Waiting.objects.filter(pk=first.pk).update(due_at=later, phase=Phase.LATER)
    Waiting.objects.filter(pk=second.pk).update(due_at=later + timedelta(hours=1), phase=Phase.LATER)
    shown = api.get(f"/sends/{send_id}").json()
    assert (shown["queued"], shown["send_after"]) == (True, int(later.timestamp()))

    attempt = an_attempt(send_id)  # in flight: due_at is the lease's end, which is nobody's business
    Waiting.objects.filter(pk=first.pk).update(attempt_id=attempt.pk, sender_id=1, lease_until=later)
    shown = api.get(f"/sends/{send_id}").json()
    assert shown["send_after"] == int(id_time(attempt.pk).timestamp())

    Waiting.objects.filter(send_id=send_id).delete()
    shown = api.get(f"/sends/{send_id}").json()
    date = Send.objects.get(pk=send_id).message_date
    assert (shown["queued"], shown["send_after"]) == (False, int(date.timestamp()))


# --- whose it is ---------------------------------------------------------------------------------------------------


def test_another_projects_send_is_refused_as_the_contract_says(api, foreign_api):
    send_id = api.send()
    send_uuid = Send.objects.get(pk=send_id).uuid
    for path in (f"/sends/{send_id}", f"/sends/{send_id}/retry"):
        method = "POST" if path.endswith("retry") else "GET"
        assert refused(foreign_api(method, path)) == (403, "Entity does not belong to the project")
    for path in (f"/sends/uuid/{send_uuid}", f"/sends/uuid/{send_uuid}/content"):
        assert refused(foreign_api.get(path)) == (400, f"Send with UUID {send_uuid} does not belong to project")
    assert ids(foreign_api.get("/sends")) == []
    assert ids(foreign_api.get("/sends?to_search=dora&status=queued")) == []
    assert foreign_api.send() not in ids(api.get("/sends"))


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        ("abc", 400, "Invalid ID"),
        ("-1", 404, "Entity not found"),
        ("1", 404, "Entity not found"),
        ("9007199254740991", 404, "Entity not found"),
        ("9223372036854775807", 404, "Entity not found"),
        ("9" * 40, 404, "Entity not found"),
    ],
)
def test_ids_that_are_none(api, raw, status, message):
    assert refused(api.get(f"/sends/{raw}")) == (status, message)


def test_uuids_that_are_none(api):
    send_id = api.send()
    nearly = uuid_of(send_id)  # the right id, other random bits
    for raw in ("nonsense", str(uuid.uuid4()), str(nearly), "%00", str(uuid.UUID(int=2**128 - 1))):
        status, message = refused(api.get(f"/sends/uuid/{raw}"))
        assert (status, message[:15], message[-10:]) == (404, "Send with UUID ", " not found")
        assert api.get(f"/sends/uuid/{raw}/content").status_code == 404


def test_reading_needs_its_scope(keyed, api):
    send_id = api.send()
    sender = keyed("sends.send")
    for path in ("/sends", f"/sends/{send_id}", f"/sends/uuid/{Send.objects.get().uuid}/content"):
        assert sender.get(path).status_code == 403
    assert keyed("sends.read").post(f"/sends/{send_id}/retry", {}).status_code == 403


def test_other_methods_are_refused(api):
    response = api("DELETE", "/sends")
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")
    assert api("PUT", f"/sends/{api.send()}").status_code == 405


# --- content -------------------------------------------------------------------------------------------------------


def test_content_is_what_was_given_and_the_message_as_sent(api):
    send_id = api.send(
        body_text="Grüße\n",
        body_html="<p>Grüße</p>",
        headers={"X-Campaign": "Frühling", "Reply-To": "help@shop.example.test"},
        attachments=[{"content": base64.b64encode(b"file").decode(), "name": "a.txt"}],
    )
    send = Send.objects.get(pk=send_id)
    shown = api.get(f"/sends/uuid/{send.uuid}/content").json()
    assert shown.keys() == {"body_html", "body_text", "headers", "raw"}
    assert (shown["body_html"], shown["body_text"]) == ("<p>Grüße</p>", "Grüße\n")
    assert shown["headers"] == {"x-campaign": "Frühling", "reply-to": "help@shop.example.test"}
    assert shown["raw"].startswith("DKIM-Signature: ")
    assert f"\r\nMessage-ID: <{send.uuid}@shop.example.test>\r\n" in shown["raw"]
    Signature.objects.create(pk=send_id, header_lines=b"DKIM-Signature: kept\r\n")
    assert api.get(f"/sends/uuid/{send.uuid}/content").json()["raw"].startswith("DKIM-Signature: kept\r\nFrom: ")


def test_content_that_is_gone_is_404(api):
    send = Send.objects.get(pk=api.send())
    Content.objects.all().delete()
    response = api.get(f"/sends/uuid/{send.uuid}/content")
    assert refused(response) == (404, f"Content for send with UUID {send.uuid} not found: it is no longer kept")


# --- the list ------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_goes_on_before_an_id(api):
    first, second, third = (api.send() for _ in range(3))
    assert ids(api.get("/sends")) == [third, second, first]
    assert ids(api.get("/sends?limit=2")) == [third, second]
    assert ids(api.get(f"/sends?limit=2&before_id={second}")) == [first]
    assert ids(api.get(f"/sends?before_id={first}")) == ids(api.get("/sends?before_id=0")) == []


def test_a_page_has_fifty_sends_and_a_thousand_at_most(api):
    """Lesson P9."""
    for _ in range(51):
        api.send()
    assert len(ids(api.get("/sends"))) == 50
    assert len(ids(api.get("/sends?limit=1000"))) == 51
    for limit in (0, -1, 1001, 2**63 - 1):
        status, message = refused(api.get(f"/sends?limit={limit}"))
        assert (status, message) == (422, "limit: This value should be between 1 and 1000.")


@pytest.mark.parametrize("query", ["limit=x", "limit=1.5", "before_id=x", "limit=" + "9" * 30, "from_search=a%00b"])
def test_numbers_that_are_none_are_refused(api, query):
    assert api.get(f"/sends?{query}").status_code == 400


def test_a_list_shows_neither_attempts_nor_feedback(api):
    send_id = api.send()
    an_attempt(send_id)
    [shown] = api.get("/sends").json()
    assert (shown["attempts"], shown["feedback"], shown["queued"]) == ([], [], True)
    assert [r["address"] for r in shown["recipients"]] == ["dora@example.test"]


def test_a_page_costs_the_same_however_long_it_is(api, django_assert_num_queries):
    for _ in range(3):
        api.send(to=["a@example.test", "b@example.test"])
    with django_assert_num_queries(5):  # the key, the rate, the sends, their recipients, what waits
        assert len(ids(api.get("/sends"))) == 3
    with django_assert_num_queries(7):  # …, what there is of that status, whether it fits
        assert len(ids(api.get("/sends?status=queued&to_search=b@&subject_search=hell&from_search=shop"))) == 3
    send_id = api.send()
    with django_assert_num_queries(10):  # …, what came back, its domain, what is before it, its source IPs, no attempts
        api.get(f"/sends/{send_id}")
    Waiting.objects.all().delete()
    with django_assert_num_queries(
        7
    ):  # the key, the rate, the send, its recipients, nothing waits, no attempts or feedback
        api.get(f"/sends/{send_id}")


def test_reads_touch_one_day_of_partitions(api):
    """Lesson P1: a send is found and shown without a look at the other days."""
    send_id = api.send()
    an_attempt(send_id)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with connection.cursor() as cursor:
        for table, column in partitioned_tables(cursor):
            make_partition(cursor, table, column, Day.of(yesterday))
    with CaptureQueriesContext(connection) as captured:
        api.get(f"/sends/{send_id}")
        api.get(f"/sends?date_from_search={datetime.now(UTC):%Y-%m-%d}&date_to_search={datetime.now(UTC):%Y-%m-%d}")
    reads = [q["sql"] for q in captured.captured_queries if 'FROM "sending_' in q["sql"]]
    assert len(reads) >= 6
    with connection.cursor() as cursor:
        for sql in reads:
            cursor.execute("EXPLAIN " + sql)
            plan = "\n".join(line for (line,) in cursor.fetchall())
            days = set(re.findall(r"(sending_\w+?)_p(\d{8})", plan))
            tables = {table for table, _ in days}
            assert tables, plan
            if 'FROM "sending_attempt' not in sql:  # attempts may follow for days, so theirs go on from here
                assert len(days) <= 2 * len(tables), plan
            assert min(day for _, day in days) >= f"{id_time(send_id):%Y%m%d}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("from_search=shop@", True),
        ("from_search=SHOP@", False),
        ("from_search=%25", False),
        ("from_search=sh_p", False),
        ("to_search=Dora", True),
        ("to_search=dora", False),
        ("to_search=d%25a", False),
        ("to_search=eve", True),
        ("to_search=\\", False),
        ("subject_search=50%25%20OFF", True),
        ("subject_search=50_", False),
        ("subject_search=GRÜSSE", False),
        ("subject_search=GRÜß", True),
        ("status=queued", True),
        ("status=accepted", False),
        ("status=processing", True),
        ("status=", True),
        ("status=queued&to_search=Dora", True),
        ("status=accepted&to_search=Dora", False),
        ("status=bounced&to_search=eve", True),
        ("status=queued&to_search=eve", False),
        ("status=bounced&to_search=eve&from_search=shop&subject_search=off", True),
    ],
)
def test_searches(api, query, found):
    send_id = api.send(to=["Dora@example.test", "eve@example.test"], subject="50% off, Grüße")
    Recipient.objects.filter(send_id=send_id, address="eve@example.test").update(status="bounced")
    assert ids(api.get(f"/sends?{query}")) == ([send_id] if found else [])


def test_dates_bound_the_list_inclusively(api):
    send_id = api.send()
    at = id_time(send_id).replace(microsecond=0)
    day, second = f"{at:%Y-%m-%d}", f"{at:%Y-%m-%d %H:%M:%S}"
    before, after = f"{at - timedelta(days=1):%Y-%m-%d}", f"{at + timedelta(days=1):%Y-%m-%d}"
    for query in (
        {"date_from_search": day, "date_to_search": day},
        {"date_from_search": second, "date_to_search": second},
        {"date_from_search": f"{at.isoformat()}"},
        {"date_from_search": f"{at:%Y-%m-%dT%H:%M:%SZ}"},
        {"date_to_search": (at + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")},
        {"date_from_search": "0001-01-01", "date_to_search": "9000-01-01"},
        {"date_from_search": ""},
    ):
        assert ids(api.client.get("/api/console/sends", query, headers=key(api))) == [send_id], query
    for query in (
        {"date_from_search": after},
        {"date_to_search": before},
        {"date_to_search": f"{at - timedelta(seconds=1):%Y-%m-%d %H:%M:%S}"},
        {"date_from_search": f"{at + timedelta(seconds=1):%Y-%m-%d %H:%M:%S}"},
        {"date_to_search": "0001-01-01"},
        {"date_from_search": "9999-12-31"},
    ):
        assert ids(api.client.get("/api/console/sends", query, headers=key(api))) == [], query


def key(api) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token}"}


@pytest.mark.parametrize("name", ["date_from_search", "date_to_search"])
@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", "2026-02-30", "1795315143000", "9999-12-31T23:59:59-14:00"]
)
def test_dates_that_are_none_are_refused(api, name, value):
    response = api.get(f"/sends?{name}={value}")
    if response.status_code == 200:  # beyond the calendar's end there is simply nothing
        assert (name, ids(response)) == ("date_from_search", [])
    else:
        assert refused(response) == (422, f"{name}: This value is not a valid date.")


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(
            [
                "limit",
                "before_id",
                "status",
                "from_search",
                "to_search",
                "subject_search",
                "date_from_search",
                "date_to_search",
                "offset",
            ]
        ),
        st.text(max_size=30) | st.datetimes().map(str) | st.integers().map(str),
    )
)
def test_no_query_is_too_odd_for_an_answer(api, query):
    assert api.client.get("/api/console/sends", query, headers=key(api)).status_code in {200, 400, 422}
