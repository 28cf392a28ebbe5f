"""What Relay adds to a send: a time that can be moved, taking back, replies elsewhere, inline files, tags, test keys."""

import base64
import email
import email.policy
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from projects.api_keys import create_key
from projects.models import ApiKey, Domain, Event
from projects.scopes import SCOPES
from sending.models import TEST_LANE, Recipient, Send, SendTag, Waiting
from tests.sending.api.conftest import Api, mail

pytestmark = pytest.mark.django_db
DAY = 86_400


def in_days(days: float) -> int:
    return int(time.time() + days * DAY)


def parsed(api: Api, send_id: int) -> Any:
    send = Send.objects.get(pk=send_id)
    raw = api.get(f"/sends/uuid/{send.uuid}/content").json()["raw"]
    return email.message_from_string(raw, policy=email.policy.default)


# --- send_after, cancel, reschedule ----------------------------------------------------------------------------------


def test_scheduled_mail_waits_for_its_time_and_is_dated_by_it(api: Api) -> None:
    when = in_days(2)
    send_id = api.send(send_after=when)
    shown = api.get(f"/sends/{send_id}").json()
    assert (shown["queued"], shown["send_after"]) == (True, when)
    assert shown["recipients"][0]["why"]["kind"] == "scheduled"
    assert parsed(api, send_id)["Date"].datetime == datetime.fromtimestamp(when, UTC)


def test_past_time_means_now(api: Api) -> None:
    send_id = api.send(send_after=1)
    assert Waiting.objects.get(send_id=send_id).phase == 0


@pytest.mark.parametrize("value", ["tomorrow", True, 1.5, -1, 2**80, "in 31 days", "in 400,000 days", [], {}])
def test_time_that_is_none_or_too_far_is_named(api: Api, value: Any) -> None:
    far = {"in 31 days": in_days(31), "in 400,000 days": in_days(400_000)}  # processes collect tests at different times
    answer = api.post("/sends", mail(send_after=far[value] if isinstance(value, str) and value in far else value))
    assert (answer.status_code, answer.json()["violations"][0]["property"]) == (422, "send_after")


def test_cancel_takes_back_what_waits_and_says_what_is_in_flight(api: Api) -> None:
    send_id = api.send(to=["ann@one.test", "bob@two.test", "cy@three.test"], send_after=in_days(1))
    flying = Waiting.objects.filter(send_id=send_id).order_by("recipient_id").first()
    soon = datetime.now(UTC) + timedelta(minutes=5)
    Waiting.objects.filter(pk=flying.pk).update(attempt_id=1, sender_id=1, lease_until=soon)
    answer = api.post(f"/sends/{send_id}/cancel", {"reason": "wrong link"}).json()
    assert (answer["cancelled_recipients"], answer["in_flight_recipients"]) == (2, 1)
    assert [r["status"] for r in answer["send"]["recipients"]] == ["queued", "cancelled", "cancelled"]
    assert set(Event.objects.filter(kind="send.recipient.cancelled").values_list("payload__reason", flat=True)) == {
        "wrong link"
    }
    assert AuditEntry.objects.get(action="send.cancelled").detail["cancelled"] == 2


def test_cancelling_twice_is_harmless(api: Api) -> None:
    send_id = api.send(send_after=in_days(1))
    counts = [api.post(f"/sends/{send_id}/cancel").json()["cancelled_recipients"] for _ in range(2)]
    assert counts == [1, 0]


def test_reschedule_moves_the_time_with_date(api: Api) -> None:
    send_id, when = api.send(send_after=in_days(1)), in_days(9)
    answer = api.post(f"/sends/{send_id}/reschedule", {"send_after": when}).json()
    assert (answer["rescheduled_recipients"], answer["send"]["send_after"]) == (1, when)
    assert parsed(api, send_id)["Date"].datetime == datetime.fromtimestamp(when, UTC)


def test_what_was_tried_cannot_be_moved(api: Api) -> None:
    send_id = api.send()
    Waiting.objects.update(tries=1, phase=1)
    answer = api.post(f"/sends/{send_id}/reschedule", {"send_after": in_days(1)})
    assert (answer.status_code, "tried already" in answer.json()["message"]) == (400, True)
    Waiting.objects.all().delete()
    assert "waits any more" in api.post(f"/sends/{send_id}/reschedule", {"send_after": in_days(1)}).json()["message"]


@pytest.mark.parametrize("body", [{}, {"send_after": None}, {"send_after": "x"}, {"send_after": -5}, [1]])
def test_reschedule_names_a_time_that_is_none(api: Api, body: Any) -> None:
    assert api.post(f"/sends/{api.send()}/reschedule", body).status_code in (400, 422)


def test_try_now_of_scheduled_mail_dates_it_now(api: Api) -> None:
    send_id = api.send(send_after=in_days(5))
    api.post(f"/sends/{send_id}/retry", {})
    assert Send.objects.get(pk=send_id).message_date <= datetime.now(UTC)


def test_others_cannot_cancel_or_move(api: Api, foreign_api: Api) -> None:
    send_id = api.send(send_after=in_days(1))
    for verb in ("cancel", "reschedule"):
        assert foreign_api.post(f"/sends/{send_id}/{verb}", {"send_after": in_days(2)}).status_code == 403
    assert Recipient.objects.get(send_id=send_id).status == "queued"


def test_reading_is_not_enough_to_cancel(api: Api, keyed: Any) -> None:
    assert keyed("sends.read").post(f"/sends/{api.send()}/cancel").status_code == 403


# --- reply_to and inline files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("help@x.test", [("", "help@x.test")]),
        ({"email": "help@x.test", "name": 'Hélp, "us"'}, [('Hélp, "us"', "help@x.test")]),
        (["a@x.test", {"email": "b@x.test", "name": "B, C"}], [("", "a@x.test"), ("B, C", "b@x.test")]),
    ],
)
def test_replies_go_to_whom_it_names(api: Api, value: Any, expected: Any) -> None:
    found = parsed(api, api.send(reply_to=value))["Reply-To"].addresses
    assert [(address.display_name, address.addr_spec) for address in found] == expected


@pytest.mark.parametrize(
    "value", ["nobody", 7, {"name": "x"}, ["a@x.test"] * 11, {"email": "a@x.test", "name": "x\r\ny"}]
)
def test_reply_to_that_is_none_is_named(api: Api, value: Any) -> None:
    answer = api.post("/sends", mail(reply_to=value))
    assert (answer.status_code, answer.json()["violations"][0]["property"]) == (422, "reply_to")


def test_reply_to_and_its_header_exclude_each_other(api: Api) -> None:
    answer = api.post("/sends", mail(reply_to="a@x.test", headers={"reply-TO": "b@x.test"}))
    assert "not both" in answer.json()["message"]


def test_inline_file_stands_beside_the_html_that_shows_it(api: Api) -> None:
    logo = {
        "content": base64.b64encode(b"png").decode(),
        "name": "logo.png",
        "content_id": "<logo>",
        "disposition": "inline",
    }
    send_id = api.send(body_html='<img src="cid:logo">', attachments=[logo])
    message = parsed(api, send_id)
    related = message.get_payload()[1]
    assert (message.get_content_type(), related.get_content_type()) == ("multipart/alternative", "multipart/related")
    part = related.get_payload()[1]
    assert (part["Content-ID"], part.get_content_disposition()) == ("<logo>", "inline")


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"disposition": "inline"}, "content_id"),
        ({"disposition": "elsewhere"}, "disposition"),
        ({"disposition": "attachment", "content_id": "x"}, "disposition"),
        ({"content_id": "two words"}, "content_id"),
        ({"content_id": 7}, "content_id"),
        ({"content_id": "a>\r\nX: y"}, "content_id"),
    ],
)
def test_inline_file_that_cannot_be_is_named(api: Api, fields: dict[str, Any], at: str) -> None:
    answer = api.post("/sends", mail(attachments=[{"content": "aGk=", **fields}]))
    assert (answer.status_code, answer.json()["violations"][0]["property"]) == (422, f"attachments[0][{at}]")


def test_content_id_is_used_once(api: Api) -> None:
    answer = api.post("/sends", mail(attachments=[{"content": "aGk=", "content_id": "a"}] * 2))
    assert answer.json()["violations"][0]["property"] == "attachments[1][content_id]"


# --- tags and metadata -----------------------------------------------------------------------------------------------


def test_tags_and_metadata_are_shown_and_found_again(api: Api, foreign_api: Api) -> None:
    send_id = api.send(tags=["welcome", "a/b test", "welcome"], metadata={"order": "17"})
    other = api.send(tags=["other"])
    foreign_api.send(tags=["welcome"])
    shown = api.get(f"/sends/{send_id}").json()
    assert (shown["tags"], shown["metadata"], shown["is_test"]) == (["welcome", "a/b test"], {"order": "17"}, False)
    assert [found["id"] for found in api.get("/sends?tag=welcome").json()] == [send_id]
    assert [found["id"] for found in api.get("/sends?tag=other&status=queued").json()] == [other]
    assert api.get("/sends?tag=welc").json() == []
    assert api.get("/sends?tag=%00").status_code in (200, 400, 422)


def test_mail_without_labels_has_empty_ones_and_no_row(api: Api) -> None:
    shown = api.get(f"/sends/{api.send()}").json()
    assert (shown["tags"], shown["metadata"]) == ([], {})
    assert not SendTag.objects.exists()


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"tags": "welcome"}, "tags"),
        ({"tags": ["x"] * 11}, "tags"),
        ({"tags": ["ok", ""]}, "tags[1]"),
        ({"tags": ["x" * 65]}, "tags[0]"),
        ({"tags": [7]}, "tags[0]"),
        ({"tags": [" x"]}, "tags[0]"),
        ({"tags": ["é"]}, "tags[0]"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {str(i): "x" for i in range(21)}}, "metadata"),
        ({"metadata": {"a b": "x"}}, "metadata[a b]"),
        ({"metadata": {"a": 7}}, "metadata[a]"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata[a]"),
        ({"metadata": {"a": "x" * 501}}, "metadata[a]"),
        ({"metadata": {"a": "\0"}}, "metadata[a]"),
    ],
)
def test_labels_out_of_bounds_are_named(api: Api, fields: dict[str, Any], at: str) -> None:
    answer = api.post("/sends", mail(**fields))
    assert (answer.status_code, answer.json()["violations"][0]["property"]) == (422, at)


# --- Test keys -------------------------------------------------------------------------------------------------------


@pytest.fixture
def test_api(api: Api) -> Api:
    """The same project with a test key."""
    made = Api(api.project)
    made.token = create_key(api.project, "t", SCOPES, ["127.0.0.1"], is_test=True)[1]
    return made


def test_key_is_made_a_test_key_for_good(api: Api) -> None:
    body = {"name": "t", "scopes": ["sends.read"], "is_test": True}
    made = api.post("/api-keys", body).json()
    assert made["is_test"] is True
    refused = api("PATCH", f"/api-keys/{made['id']}", {"is_test": False})
    assert (refused.status_code, refused.json()["violations"][0]["property"]) == (422, "is_test")
    assert api("PATCH", f"/api-keys/{made['id']}", {"name": "u", "is_test": True}).json()["name"] == "u"
    assert ApiKey.objects.get(pk=made["id"]).is_test
    assert api.post("/api-keys", {**body, "is_test": "yes"}).status_code == 422


def test_what_a_test_key_sends_is_marked_and_waits_in_its_own_lane(test_api: Api) -> None:
    Domain.objects.update(status="pending")
    send_id = test_api.send()
    assert test_api.get(f"/sends/{send_id}").json()["is_test"] is True
    assert Waiting.objects.get(send_id=send_id).lane == TEST_LANE


def test_test_key_changes_no_real_mail(api: Api, test_api: Api) -> None:
    """A retry would send it: what a test key touches never leaves."""
    send_id = api.send(send_after=in_days(1))
    for verb in ("retry", "cancel", "reschedule"):
        answer = test_api.post(f"/sends/{send_id}/{verb}", {"send_after": in_days(2)})
        assert (answer.status_code, "test key" in answer.json()["message"]) == (403, True)


def test_idempotency_key_of_a_test_is_not_that_of_a_real_mail(api: Api, test_api: Api) -> None:
    headers = {"X-Idempotency-Key": "order-1"}
    assert test_api.post("/sends", mail(), **headers).status_code == 200
    assert api.post("/sends", mail(), **headers).status_code == 409


# --- raw -------------------------------------------------------------------------------------------------------------

MIME = (
    b"From: Shop <shop@shop.example.test>\r\nTo: dora@example.test\r\nCc: cy@example.test\r\nBcc: eve@example.test\r\n"
    b"Subject: Hello\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\n<p>Gr\xc3\xbc\xc3\x9fe</p>\r\n"
)


def raw(data: bytes = MIME, **fields: Any) -> dict[str, Any]:
    return {"raw": base64.b64encode(data).decode(), **fields}


def test_raw_is_kept_as_it_is_but_for_bcc_and_what_was_missing(api: Api) -> None:
    answer = api.post("/sends", raw()).json()
    send = Send.objects.get(pk=answer["id"])
    assert answer["message_id"] == f"{send.uuid}@shop.example.test"
    people = Recipient.objects.filter(send_id=send.pk).order_by("position").values_list("type", "address")
    assert list(people) == [("to", "dora@example.test"), ("cc", "cy@example.test"), ("bcc", "eve@example.test")]
    content = api.get(f"/sends/uuid/{send.uuid}/content").json()
    kept = MIME.replace(b"Bcc: eve@example.test\r\n", b"")
    assert content["raw"].encode().endswith(kept)
    head = content["raw"].encode().removesuffix(kept)
    assert b"Message-ID: <" + answer["message_id"].encode() in head
    assert b"\r\nDate: " in head
    assert (content["body_html"], content["body_text"]) == ("<p>Grüße</p>\n", None)
    assert content["headers"]["subject"] == "Hello"
    assert (send.subject, send.from_name) == ("Hello", "Shop")
    assert send.size_bytes == len(content["raw"].encode()) - len(content["raw"].encode().partition(b"Message-ID")[0])


def test_envelope_may_be_another_than_the_header(api: Api) -> None:
    send_id = api.post("/sends", raw(to="list@example.test", **{"from": "shop@SHOP.example.test"})).json()["id"]
    assert list(Recipient.objects.filter(send_id=send_id).values_list("address", flat=True)) == ["list@example.test"]


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"raw": 7}, "raw"),
        ({"raw": "%%%"}, "raw"),
        ({"raw": base64.b64encode(b"junk").decode()}, "raw"),
        (raw(subject="x"), "subject"),
        (raw(body_text="x"), "body_text"),
        (raw(reply_to="a@x.test"), "reply_to"),
        (raw(attachments=[{"content": "aGk="}]), "attachments"),
        (raw(headers={"X-A": "b"}), "headers"),
        (raw(**{"from": "other@shop.example.test"}), "from"),
        (raw(b"From: shop@shop.example.test\r\n\r\nx"), "to"),
        (raw(MIME.replace(b"Subject", b"List-Unsubscribe"), to="a@x.test", list_unsubscribe=True), "list_unsubscribe"),
    ],
)
def test_raw_that_cannot_be_is_named(api: Api, body: dict[str, Any], at: str) -> None:
    answer = api.post("/sends", body)
    assert (answer.status_code, answer.json()["violations"][0]["property"]) == (422, at)


def test_domain_of_its_from_must_be_registered(api: Api) -> None:
    answer = api.post("/sends", raw(MIME.replace(b"shop.example.test>", b"bank.example>")))
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Domain bank.example is not registered for this project",
    )


def test_raw_can_be_scheduled_and_its_date_moves_where_we_wrote_it(api: Api) -> None:
    send_id = api.post("/sends", raw(send_after=in_days(1), tags=["raw"])).json()["id"]
    api.post(f"/sends/{send_id}/reschedule", {"send_after": in_days(3)})
    sent = parsed(api, send_id)["Date"].datetime
    assert sent == Send.objects.get(pk=send_id).message_date
