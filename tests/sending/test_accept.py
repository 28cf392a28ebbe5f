"""Accept: all of it or nothing, once, and never an error of the database."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from projects.models import Domain, Event, EventOutbox
from relay_project import jobs
from relay_project.db import lookup
from relay_project.db.ids import hours_after, id_of_uuid
from relay_project.db.lookup import forget_remembered
from relay_project.mail.mime import Attachment, NamedAddress
from sending.accept.accept import accept, accept_many
from sending.accept.request import Accepted, Refused, RequestedRecipient, SendRequest
from sending.content import compose_stored, raw_message, stored_message
from sending.models import Content, IdempotencyRecord, Phase, Recipient, RecipientType, Send, Suppression, Waiting
from tests.sending.scene import Scene, add_domain, check_ledger, later

TO, CC, BCC = RecipientType.TO, RecipientType.CC, RecipientType.BCC
TABLES = (Send, Recipient, Content, Waiting, IdempotencyRecord, Event, EventOutbox)


def written() -> list[int]:
    return [model.objects.count() for model in TABLES]


def refusal(scene: Scene, *addresses: str, **fields: Any) -> tuple[int, str | None]:
    """Refused with this status and field, and nothing written."""
    before = written()
    with pytest.raises(Refused) as refused:
        scene.send(*addresses, **fields)
    assert written() == before
    return refused.value.status, refused.value.field


# --- What is written -----------------------------------------------------------------------------------------------


def test_an_accepted_mail_is_all_there(scene: Scene) -> None:
    now = timezone.now()
    request = scene.request(
        "Ann@ONE.example", "bob@two.example", "carol@one.example", kinds=(TO, CC, BCC), body_html="<p>Hi</p>"
    )
    accepted = accept(scene.project, request, now)
    send = Send.objects.get(pk=accepted.send_id)
    assert (send.project, send.queue, send.domain) == (scene.project, scene.queue, scene.domain)
    assert accepted.message_id == f"{send.uuid}@shop.example"
    assert id_of_uuid(send.uuid) == send.pk
    assert send.message_date == now.replace(microsecond=0)
    people = list(Recipient.objects.order_by("position").values_list("type", "address", "status", "try_count"))
    assert people == [
        ("to", "Ann@one.example", "queued", 0),
        ("cc", "bob@two.example", "queued", 0),
        ("bcc", "carol@one.example", "queued", 0),
    ]
    assert all(send.pk < r.pk < hours_after(send.pk, 1) for r in Recipient.objects.all())
    rows = scene.waiting(accepted)
    assert [row.domain for row in rows] == ["one.example", "two.example", "one.example"]
    assert {(row.phase, row.due_at, row.lane, row.size_bytes) for row in rows} == {
        (Phase.DUE, now, scene.queue.pk, send.size_bytes)
    }
    raw = raw_message(send)
    assert raw is not None
    assert b"carol" not in raw, "Bcc is in no header"
    check_ledger()


def test_a_mail_for_later_waits_apart_and_is_dated_for_then(scene: Scene) -> None:
    then = later(hours=2)
    accepted = scene.send("ann@one.example", send_after=then)
    [row] = scene.waiting(accepted)
    assert (row.phase, row.due_at) == (Phase.LATER, then)
    assert Send.objects.get().message_date == then.replace(microsecond=0), "mail dated earlier scores as spam"
    past = scene.send("ann@one.example", send_after=later(hours=-2))
    assert scene.waiting(past)[0].phase == Phase.DUE
    with pytest.raises(Refused, match="more than 30 days ahead"):
        scene.send("ann@one.example", send_after=later(days=31))


def test_an_address_that_is_named_twice_is_one_recipient(scene: Scene) -> None:
    """Lesson C15: To and Cc of one address sent two RCPTs."""
    accepted = scene.send("ann@one.example", "ann@ONE.example", "Ann@one.example", kinds=(TO, CC, BCC))
    assert scene.statuses(accepted) == ["queued", "queued"]
    assert set(Recipient.objects.values_list("type", "address")) == {
        ("to", "ann@one.example"),
        ("bcc", "Ann@one.example"),
    }


def test_suppressed_recipients_are_final_at_once_with_their_event(scene: Scene) -> None:
    """Lesson C8: compared without case."""
    Suppression.objects.create(project=scene.project, email="ann@one.example", reason="bounce")
    Suppression.objects.create(project=scene.other_project(), email="bob@one.example", reason="bounce")
    accepted = scene.send("ANN@One.example", "bob@one.example")
    assert scene.statuses(accepted) == ["suppressed", "queued"]
    assert accepted.suppressed == ("ANN@one.example",)
    assert scene.kinds(accepted) == ["suppressed"]
    assert len(scene.waiting(accepted)) == 1
    alone = scene.send("ann@one.example")
    assert (scene.statuses(alone), scene.waiting(alone)) == (["suppressed"], [])
    check_ledger()


# --- All or nothing ------------------------------------------------------------------------------------------------


class Broken(Exception):
    """The process dies here."""


def statements(work: Callable[[], object]) -> int:
    """How many statements `work` runs."""
    seen: list[str] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        work()
    return len(seen)


def test_a_failure_at_any_statement_leaves_nothing(scene: Scene) -> None:
    Suppression.objects.create(project=scene.project, email="ann@one.example", reason="bounce")
    fields = {"attachments": (Attachment(b"1", "a.txt"), Attachment(b"22", "b.txt"))}
    number = iter(range(1000))

    def send() -> None:
        key = f"key {next(number)}"
        forget_remembered()  # the same statements each time
        scene.send("ann@one.example", "bob@two.example", idempotency_key=key, fingerprint="f", **fields)

    total = statements(send)
    before = written()
    for fatal in range(total):
        left = iter(range(fatal, -1, -1))

        def die(execute: Any, sql: str, params: Any, many: bool, context: Any, left: Any = left) -> Any:
            result = execute(sql, params, many, context)
            if next(left, -1) == 0:
                raise Broken
            return result

        with pytest.raises(Broken), transaction.atomic(), connection.execute_wrapper(die):
            send()
        assert written() == before, f"statement {fatal} of {total}"
    assert total >= 6


def test_success_is_answered_after_the_commit_and_the_wake_up_follows_it(
    scene: Scene, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(jobs, "wake", lambda task, queue: woken.append(queue))
    with django_capture_on_commit_callbacks(execute=True):
        scene.send("ann@one.example")
        assert woken == []
    assert woken == [jobs.drain_queue(scene.queue.pk)]
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        scene.send("ann@one.example", send_after=later(hours=1))
    assert callbacks == [], "nothing is due"


def test_a_wake_up_that_fails_fails_no_accept(open_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: str, queue: str) -> None:
        raise Broken

    monkeypatch.setattr(jobs, "wake", broken)
    accepted = open_scene.send("ann@one.example")
    assert open_scene.statuses(accepted) == ["queued"]


# --- What it costs -------------------------------------------------------------------------------------------------


def test_a_mail_takes_two_round_trips_and_a_wake_up(
    open_scene: Scene, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson P7: no look-up, lock, counter or insert of its own for each thing that a request touches.

    What is read first (ids, suppressions), what is written (one statement, so no BEGIN and no COMMIT); the domain and the
    queue are remembered for a second.
    """
    monkeypatch.setattr(jobs, "WAKE_EVERY_SECONDS", 60)
    open_scene.send("ann@one.example")
    with django_assert_num_queries(2):
        open_scene.send(*(f"person{number}@one.example" for number in range(20)))
    jobs.forget_wakes()
    with django_assert_num_queries(3):
        open_scene.send("ann@one.example")


def test_a_batch_takes_as_many_round_trips_as_a_mail(
    open_scene: Scene, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson P7."""
    monkeypatch.setattr(jobs, "WAKE_EVERY_SECONDS", 60)  # not one for the batch on a machine that takes a tenth
    open_scene.send("ann@one.example")
    requests = [open_scene.request(f"person{number}@one.example") for number in range(100)]
    with django_assert_num_queries(2):
        accept_many(open_scene.project, requests, timezone.now())
    keyed = [replace(request, idempotency_key=f"key {n}", fingerprint="f") for n, request in enumerate(requests)]
    with CaptureQueriesContext(connection) as queries:
        accept_many(open_scene.project, keyed, timezone.now())
    words = [query["sql"].split()[0] for query in queries]
    assert words == ["SELECT", "BEGIN", "WITH", "WITH", "COMMIT"]


def test_a_domain_that_is_suspended_is_refused_within_a_second(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.send("ann@one.example")
    clock = time.monotonic()
    Domain.objects.filter(pk=scene.domain.pk).update(status="suspended")
    monkeypatch.setattr(lookup.time, "monotonic", lambda: clock + lookup.REMEMBERED_SECONDS + 0.01)
    assert refusal(scene, "ann@one.example") == (400, "from")
    Domain.objects.filter(pk=scene.domain.pk).update(status="active")
    scene.send("ann@one.example")  # a refusal is not remembered


# --- Batches -------------------------------------------------------------------------------------------------------


def test_each_message_of_a_batch_has_its_own_outcome_in_order(scene: Scene) -> None:
    scene.send("ann@one.example", idempotency_key="old", fingerprint="a")
    requests = [
        scene.request("ann@one.example"),
        scene.request("not an address"),
        scene.request("bob@one.example", attachments=(Attachment(b"file", "a.txt"),)),
        scene.request("ann@one.example", idempotency_key="old", fingerprint="a"),
        scene.request("ann@one.example", from_=NamedAddress("app@elsewhere.example")),
        scene.request("ann@one.example", idempotency_key="old", fingerprint="b"),
        scene.request("ann@one.example", subject="a\nb"),
        scene.request("carol@one.example"),
    ]
    outcomes = accept_many(scene.project, requests, timezone.now())
    shapes = [(o.status, o.field) if isinstance(o, Refused) else o.replayed for o in outcomes]
    assert shapes == [False, (422, "to"), False, True, (400, "from"), (409, None), (422, "subject"), False]
    accepted = [o for o in outcomes if isinstance(o, Accepted) and not o.replayed]
    addresses = [Recipient.objects.get(send_id=a.send_id).address for a in accepted]
    assert addresses == ["ann@one.example", "bob@one.example", "carol@one.example"]
    check_ledger()


def test_an_empty_batch_is_no_error(scene: Scene) -> None:
    assert accept_many(scene.project, [], timezone.now()) == []


# --- Rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "accepted"), [("pending", False), ("suspended", False), ("active", True), ("warning", True)]
)
def test_only_a_domain_that_may_send_does(scene: Scene, status: str, accepted: bool) -> None:
    Domain.objects.filter(pk=scene.domain.pk).update(status=status)
    if accepted:
        assert scene.send("ann@one.example")
    else:
        assert refusal(scene, "ann@one.example") == (400, "from")


def test_a_domain_of_another_project_is_not_registered_here(scene: Scene) -> None:
    add_domain(scene.other_project(), "other.example")
    assert refusal(scene, "ann@one.example", from_=NamedAddress("app@other.example")) == (400, "from")
    assert scene.send("ann@one.example", from_=NamedAddress("app@SHOP.Example."))


def test_limits_are_the_settings(scene: Scene, settings: Any) -> None:
    settings.MAX_RECIPIENTS = 3
    addresses = [f"u{number}@one.example" for number in range(4)]
    assert scene.send(*addresses[:3])
    assert refusal(scene, *addresses) == (400, "to")
    assert refusal(scene) == (422, "to")
    settings.MAX_MESSAGE_BYTES = Send.objects.get().size_bytes
    assert scene.send(*addresses[:3])
    assert refusal(scene, *addresses[:3], body_text="Hello!!\r\n") == (400, None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": "a\0b"}, "subject"),
        ({"subject": "a\nBcc: eve@evil.example"}, "subject"),
        ({"subject": "a\ud800b"}, "subject"),
        ({"subject": "x" * 999}, "subject"),
        ({"from_": NamedAddress("app@shop.example", "A\r\nBcc: eve@evil.example")}, "from"),
        ({"from_": NamedAddress("app@shop.example", "\ud800")}, "from"),
        ({"from_": NamedAddress("app@shop.example", "x" * 999)}, "from"),
        ({"from_": NamedAddress("app@shop.example\r\nX: y")}, "from"),
        ({"from_": NamedAddress("\ud800@shop.example")}, "from"),
        ({"body_text": "a\0b"}, "body_text"),
        ({"body_text": "a\udfffb"}, "body_text"),
        ({"body_html": "\ud800"}, "body_html"),
        ({"headers": (("X-A", "a\nb"),)}, "headers"),
        ({"headers": (("X-A", "\ud800"),)}, "headers"),
        ({"headers": (("X-A", "\0"),)}, "headers"),
        ({"headers": (("X A", "a"),)}, "headers"),
        ({"headers": (("X-\ud800", "a"),)}, "headers"),
        ({"attachments": (Attachment(b"", "a\0"),)}, "attachments[0][name]"),
        ({"attachments": (Attachment(b""), Attachment(b"", "a\r\nb"))}, "attachments[1][name]"),
        ({"attachments": (Attachment(b"", "\ud800"),)}, "attachments[0][name]"),
        ({"attachments": (Attachment(b"", "x" * 999),)}, "attachments[0][name]"),
        ({"attachments": (Attachment(b"", "a", "text/\ud800"),)}, "attachments[0][content_type]"),
        ({"attachments": (Attachment(b"", "a", None, "\0"),)}, "attachments[0][content_id]"),
        ({"idempotency_key": "k" * 256, "fingerprint": "f"}, "idempotency_key"),
        ({"idempotency_key": "k\0", "fingerprint": "f"}, "idempotency_key"),
        ({"idempotency_key": "\ud800", "fingerprint": "f"}, "idempotency_key"),
    ],
)
def test_what_no_column_and_no_header_can_hold_is_refused_by_name(
    scene: Scene, fields: dict[str, Any], field: str
) -> None:
    assert refusal(scene, "ann@one.example", **fields) == (422, field)


@pytest.mark.parametrize("name", ["a\r\nb", "\0", "\ud800", "x" * 999])
@pytest.mark.parametrize("kind", [TO, CC, BCC])
def test_a_recipients_name_is_refused_by_its_field(scene: Scene, kind: RecipientType, name: str) -> None:
    request = SendRequest(
        NamedAddress("app@shop.example"), (RequestedRecipient(kind, "ann@one.example", name),), body_text="x"
    )
    [refused] = accept_many(scene.project, [request], timezone.now())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.field) == (422, kind.value)


# --- Whatever comes ------------------------------------------------------------------------------------------------

ANY = st.text(st.characters(), max_size=30)
NASTY = st.one_of(
    ANY, st.sampled_from(["", "\0", "\r\n.\r\n", "\ud800", "=?utf-8?q?=00?=", "x" * 1200, "\u2028", "ẞ@ẞ.example"])
)
ADDRESSES = st.one_of(
    st.sampled_from(["ann@one.example", "Ann@ONE.example", "jürgen@müller.example", "a+b@xn--mller-kva.example"]),
    NASTY,
    st.builds("{}@{}".format, NASTY, NASTY),
)
MAYBE = st.one_of(st.none(), NASTY)
REQUESTS = st.builds(
    SendRequest,
    from_=st.builds(NamedAddress, st.one_of(st.just("app@shop.example"), ADDRESSES), MAYBE),
    recipients=st.lists(
        st.builds(RequestedRecipient, st.sampled_from(RecipientType), ADDRESSES, NASTY), max_size=4
    ).map(tuple),
    subject=MAYBE,
    body_html=MAYBE,
    body_text=MAYBE,
    headers=st.lists(st.tuples(st.one_of(st.just("X-A"), NASTY), NASTY), max_size=2).map(tuple),
    attachments=st.lists(st.builds(Attachment, st.binary(max_size=100), MAYBE, MAYBE, MAYBE), max_size=2).map(tuple),
    send_after=st.one_of(
        st.none(),
        st.timedeltas(timedelta(days=-4000), timedelta(days=4000)).map(datetime(2026, 11, 22, tzinfo=UTC).__add__),
    ),
    idempotency_key=MAYBE,
    fingerprint=st.just("f"),
)


@given(request=REQUESTS)
@examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_request_is_accepted_or_refused(scene: Scene, request: SendRequest) -> None:
    """And what is accepted reads back as the bytes that were measured (the exact length before signing)."""
    [outcome] = accept_many(scene.project, [request], timezone.now())
    if isinstance(outcome, Refused):
        assert outcome.status in {400, 409, 422}
        assert outcome.message
        return
    if not outcome.replayed:
        check_bytes(outcome)
    check_ledger()


def check_bytes(accepted: Accepted) -> None:
    send = Send.objects.get(pk=accepted.send_id)
    stored = stored_message(send)
    assert stored is not None
    assert len(compose_stored(stored)) == send.size_bytes
    raw = raw_message(send)
    assert raw == raw_message(send)
    assert raw is not None
    assert len(raw) > send.size_bytes
    assert f"Message-ID: <{accepted.message_id}>".encode() in raw


PLAIN = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=80)
GOOD = st.builds(
    SendRequest,
    from_=st.builds(NamedAddress, st.just("app@shop.example"), st.one_of(st.none(), PLAIN)),
    recipients=st.lists(
        st.builds(RequestedRecipient, st.sampled_from(RecipientType),
                  st.sampled_from(["ann@one.example", "bob@two.example", "ü@one.example"]), PLAIN),
        min_size=1, max_size=3,
    ).map(tuple),
    subject=st.one_of(st.none(), PLAIN),
    body_html=st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))),
    body_text=st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))),
    headers=st.lists(st.tuples(st.sampled_from(["X-A", "Reply-To", "List-Id"]), PLAIN), max_size=2).map(tuple),
    attachments=st.lists(st.builds(Attachment, st.binary(max_size=300), st.one_of(st.none(), PLAIN),
                                   st.sampled_from([None, "text/plain", "image/png"]),
                                   st.sampled_from([None, "logo@shop.example"])), max_size=2).map(tuple),
)  # fmt: skip


@given(requests=st.lists(GOOD, min_size=1, max_size=3))
@examples(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_size_known_at_accept_is_the_size_that_is_sent(scene: Scene, requests: list[SendRequest]) -> None:
    """Composed again from what is stored, byte for byte; a batch with files and without reads back each its own."""
    for request, outcome in zip(requests, accept_many(scene.project, requests, timezone.now()), strict=True):
        assert isinstance(outcome, Accepted), outcome
        check_bytes(outcome)
        stored = stored_message(Send.objects.get(pk=outcome.send_id))
        assert stored is not None
        assert [bytes(body) for body in stored.attachment_bodies] == [file.content for file in request.attachments]
        assert (stored.body_html, stored.body_text, stored.subject) == (
            request.body_html, request.body_text, request.subject
        )  # fmt: skip
