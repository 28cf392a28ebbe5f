"""What is due leaves, what is needed stays, and half-dropped history says so instead of failing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts import audit
from accounts.models import AuditEntry
from projects.events import sequence_outbox
from projects.models import Event, EventOutbox, FeedPosition
from relay_project import health, retention
from relay_project.db import dropping
from relay_project.db.dropping import State, list_partitions
from relay_project.db.locks import RETENTION, try_lock
from relay_project.db.partitions import Day, partition_name
from relay_project.models import RetentionRun
from sending.content import raw_message
from sending.models import (
    Attempt,
    Content,
    IdempotencyRecord,
    InboundMail,
    Phase,
    Recipient,
    SandboxMessage,
    Send,
    UnreadMail,
    Waiting,
)
from sending.objects import full_send_object
from sending.retention import SCHEDULED
from sending.retry import NO_CONTENT, RetryRefused, retry
from tests.db.test_dropping import reader
from tests.history import ago, happened, tables
from tests.sending.scene import Scene

Days = Callable[..., None]
TABLES = {
    "projects_event",
    "sending_attempt",
    "sending_attemptrecipient",
    "sending_content",
    "sending_feedback",
    "sending_inboundmail",
    "sending_receivedmail",
    "sending_recipient",
    "sending_searchtext",
    "sending_send",
    "sending_sendtag",
    "sending_signature",
    "webhooks_webhookdelivery",
}


@pytest.fixture
def past(old_days: Days, open_scene: Scene, settings: Any) -> Scene:
    """Sends of 29, 31 and 40 days ago; deliveries of webhooks are kept as long as all the rest."""
    settings.RETENTION_DELIVERIES_DAYS = 30
    old_days(ago(29), ago(30), ago(31), ago(40))
    for days in (29, 31, 40):
        old(open_scene, days)
    return open_scene


def old(scene: Scene, days: int, **fields: Any) -> Send:
    return happened(scene.project, ago(days), domain=scene.domain, queue=scene.queue, **fields)


def run(**later: float) -> RetentionRun:
    found = retention.run(timezone.now() + timedelta(**later))
    assert found is not None
    return found


def gone(days: int) -> set[str]:
    """Tables without that day."""
    with connection.cursor() as cursor:
        there = tables(cursor)
    return {table for table in TABLES if partition_name(table, ago(days)) not in there}


def wait(send: Send) -> None:
    recipient = Recipient.objects.get(send_id=send.pk, pk__gte=send.pk)
    Recipient.objects.filter(pk=recipient.pk).update(status="deferred")
    Waiting.objects.create(
        recipient_id=recipient.pk,
        send_id=send.pk,
        project_id=send.project_id,
        queue_id=send.queue_id,
        lane=send.queue_id,
        domain="one.example",
        size_bytes=1,
        phase=Phase.LATER,
        due_at=timezone.now() + timedelta(1),
    )


def reasons(found: RetentionRun) -> set[str]:
    return {one["reason"] for one in found.kept_back}


def test_days_past_their_time_leave_whole_and_younger_ones_stay(past: Scene) -> None:
    found = run()
    assert found.finished_at is not None
    assert found.partitions == 2 * len(TABLES)
    assert found.size_bytes > 2 * len(TABLES) * 8192
    assert (gone(40), gone(31), gone(30), gone(29)) == (TABLES, TABLES, set(), set())
    assert Send.objects.count() == 1
    assert run().partitions == 0


def test_a_clock_that_runs_ahead_drops_nothing_that_is_young(past: Scene, caplog: pytest.LogCaptureFixture) -> None:
    before = timezone.now()
    ahead = retention.by_both_clocks(before + timedelta(days=400))
    assert before - timedelta(seconds=1) < ahead < before + timedelta(minutes=1)
    assert retention.by_both_clocks(before - timedelta(days=1)) == before - timedelta(days=1)
    assert "retention.clocks_differ" in caplog.text


def test_each_family_has_its_own_time(past: Scene, settings: Any) -> None:
    settings.RETENTION_CONTENT_DAYS, settings.RETENTION_ATTEMPTS_DAYS, settings.RETENTION_EVENTS_DAYS = 30, 32, 45
    settings.RETENTION_SENDS_DAYS, settings.RETENTION_DELIVERIES_DAYS = 35, 30
    run()
    inbound = {"sending_inboundmail", "sending_receivedmail"}
    assert gone(31) == {"sending_content", "sending_signature", "webhooks_webhookdelivery"} | inbound
    assert gone(40) == TABLES - {"projects_event"}


def test_a_send_without_its_content_and_attempts_is_shown_and_says_so(past: Scene, settings: Any) -> None:
    settings.RETENTION_CONTENT_DAYS = settings.RETENTION_ATTEMPTS_DAYS = 7
    run()
    send = Send.objects.get(pk__gte=Day.of(ago(29)).floor)
    assert raw_message(send) is None
    shown = full_send_object(send, datetime.now(UTC))
    assert shown["attempts"] == []
    assert len(shown["recipients"]) == 1
    Recipient.objects.filter(send_id=send.pk).update(status="failed")
    with pytest.raises(RetryRefused, match=NO_CONTENT):
        retry(send, timezone.now())
    assert not Waiting.objects.exists()


def test_a_day_stays_while_mail_of_it_waits(past: Scene) -> None:
    send = Send.objects.order_by("id")[0]
    wait(send)
    found = run()
    assert gone(40) == {
        "projects_event",
        "sending_attempt",
        "sending_attemptrecipient",
        "sending_inboundmail",
        "sending_receivedmail",
        "webhooks_webhookdelivery",
    }
    assert reasons(found) == {"mail that waits"}
    Waiting.objects.all().delete()
    Recipient.objects.update(status="accepted")
    run()
    assert gone(40) == TABLES


def test_raw_reports_expire_but_not_before_they_were_read(past: Scene) -> None:
    """Lesson S9: reports were kept for ever."""
    day = Day.of(ago(40))
    mail = InboundMail.objects.create(pk=day.floor, peer="192.0.2.9", recipients=[], octets=b"x", size_bytes=1)
    UnreadMail.objects.create(mail_id=mail.pk, due_at=timezone.now(), size_bytes=1)
    assert reasons(run()) == {"mail that nobody has read"}
    assert InboundMail.objects.exists()
    UnreadMail.objects.all().delete()
    run()
    assert not InboundMail.objects.exists()


def test_a_scheduled_send_counts_from_its_time(past: Scene) -> None:
    """Accepted 40 days ago to leave 20 days ago: kept for ten days more."""
    old(past, 40, message_date=timezone.now() - timedelta(days=20))
    assert {reason[:18] for reason in reasons(run())} == {"mail scheduled for"}
    assert not gone(40) & {"sending_send", "sending_recipient", "sending_content", "sending_signature"}
    run(days=9)
    assert "sending_send" not in gone(40)
    run(days=11)
    assert gone(40) == TABLES


def test_scheduled_sends_are_found_without_reading_their_day(past: Scene) -> None:
    name, day = partition_name("sending_send", ago(40)), Day.of(ago(40))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO sending_send SELECT (jsonb_populate_record(s, jsonb_build_object('id', {day.floor} + n))).*
                  FROM "{name}" s, generate_series(1, 3000) n"""
        )
        cursor.execute(f'ANALYZE "{name}"')
        cursor.execute(
            f"EXPLAIN SELECT max(message_date) FROM sending_send WHERE id >= {day.floor} AND id < {day.ceiling}"
            f" AND {SCHEDULED} AND message_date IS NOT NULL"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert f"{name}_message_date" in plan, plan


def test_a_recipient_that_is_not_final_keeps_its_day_though_it_waits_nowhere(past: Scene) -> None:
    """Mail that was lost must not lose its trace as well."""
    Recipient.objects.filter(pk__lt=Day.of(ago(39)).floor).update(status="queued")
    assert reasons(run()) == {"recipients that are not final and wait nowhere"}
    assert not gone(40) & {"sending_send", "sending_recipient"}


def test_events_that_nobody_has_put_in_order_stay_with_their_day(past: Scene) -> None:
    event = Event.objects.order_by("id")[0]
    EventOutbox.objects.create(event_id=event.pk)
    assert "events that have no position in the feed yet" in reasons(run())
    assert "projects_event" not in gone(40)
    with connection.cursor() as cursor:
        sequence_outbox(cursor)
    assert FeedPosition.objects.count() == 1
    run()
    assert "projects_event" in gone(40)
    assert not FeedPosition.objects.exists(), "positions leave with their events"


def test_a_retry_that_was_faster_than_the_removal_keeps_the_day(past: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits when the day is looked at, and something does when it is detached: the last look decides."""
    send = Send.objects.order_by("id")[0]
    detach = dropping._detach

    def slow(cursor: Any, partition: Any) -> None:
        if partition.name == partition_name("sending_content", ago(40)):
            wait(send)
        detach(cursor, partition)

    monkeypatch.setattr(dropping, "_detach", slow)
    found = run()
    assert "mail that waits" in reasons(found)
    assert "sending_content" not in gone(40)
    assert Content.objects.filter(pk=send.content_id).exists()
    assert not gone(40) & {"sending_send", "sending_recipient"}


def test_a_run_that_died_between_detach_and_drop_is_finished_by_the_next(past: Scene) -> None:
    with connection.cursor() as cursor:
        name = partition_name("sending_attempt", ago(40))
        cursor.execute(f'ALTER TABLE sending_attempt DETACH PARTITION "{name}" CONCURRENTLY')
        assert not Attempt.objects.filter(pk__lt=Day.of(ago(39)).floor).exists()
        run()
        assert name not in tables(cursor)


def test_somebody_in_the_way_costs_an_hour_and_no_failure(past: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "LOCK_TIMEOUT", "100ms")
    with reader("SELECT count(*) FROM sending_attempt"):
        found = run()
    assert found.error == ""
    assert reasons(found) == {retention.IN_USE}
    assert gone(40) == TABLES - {"sending_attempt"}
    run()
    assert gone(40) == TABLES


def test_two_housekeepers_do_not_collide(past: Scene) -> None:
    with reader(f"SELECT pg_advisory_lock({RETENTION})"):
        assert retention.run(timezone.now()) is None
        assert gone(40) == set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [RETENTION])  # waits for the other session's end
        assert try_lock(cursor, RETENTION), "the run that found it taken holds nothing either"
        cursor.execute("SELECT pg_advisory_unlock_all()")


def test_small_tables_lose_what_is_old(past: Scene) -> None:
    now = timezone.now()
    past.send("ann@one.example", idempotency_key="k", fingerprint="f")
    SandboxMessage.objects.create(data=b"x")
    audit.record("test.done", actor=None)
    run(hours=23)
    assert (IdempotencyRecord.objects.count(), SandboxMessage.objects.count(), AuditEntry.objects.count()) == (1, 1, 1)
    run(hours=25)
    assert not IdempotencyRecord.objects.exists()
    run(days=31)
    assert not SandboxMessage.objects.exists()
    assert AuditEntry.objects.count() == 1
    run(days=366)
    assert not AuditEntry.objects.exists()
    assert now < timezone.now()


def test_the_audit_log_may_be_kept_for_ever(past: Scene, settings: Any) -> None:
    settings.RETENTION_AUDIT_DAYS = 0
    audit.record("test.done", actor=None)
    run(days=4000)
    assert AuditEntry.objects.count() == 1


def test_the_command_shows_first_and_removes_only_when_asked(past: Scene) -> None:
    wait(Send.objects.order_by("id")[0])
    said = call("--dry-run")
    assert "sends" in said
    assert ago(40).isoformat() in said
    assert f"{partition_name('sending_send', ago(40))} " in said
    assert "stays: mail that waits" in said
    assert " goes" in said
    assert gone(40) == gone(31) == set()
    assert not RetentionRun.objects.exists()
    assert "Dropped 19 tables' days" in call()
    assert gone(31) == TABLES


def call(*arguments: str) -> str:
    out = StringIO()
    call_command("retention", *arguments, stdout=out)
    return out.getvalue()


def test_health_says_when_retention_is_silent_failed_or_blocked(past: Scene) -> None:
    def told() -> health.HealthResult:
        return health.run_check(health._checks["retention"])

    assert told().detail == "has not run yet"
    found = run()
    assert told().passed
    due_at = datetime.now(UTC) - timedelta(days=3)
    found.kept_back = [{"partition": "sending_send_p1", "reason": retention.IN_USE, "due_at": due_at.isoformat()}]
    found.save()
    assert "always in use" in told().detail
    found.kept_back = []
    found.started_at -= timedelta(hours=7)
    found.save()
    assert "has not run since" in told().detail
    found.error = "boom"
    found.save()
    assert "failed: boom" in told().detail


def test_health_names_a_day_that_somebody_detached(past: Scene) -> None:
    run()
    name = partition_name("sending_send", ago(29))
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE sending_send DETACH PARTITION "{name}" CONCURRENTLY')
        assert name in health.run_check(health._checks["retention"]).detail
        run()
        assert [p.state for p in list_partitions(cursor) if p.name == name] == [State.DETACHED], "and touches it not"


def test_a_failure_is_written_down(past: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(now: datetime) -> int:
        raise ValueError("no such thing")

    retention.sweeps()
    monkeypatch.setitem(retention._sweeps, "audit", retention.Sweep("audit", lambda: 1, broken))
    with pytest.raises(ValueError, match="no such thing"):
        retention.run(timezone.now())
    last = RetentionRun.objects.get()
    assert (last.finished_at, last.partitions) == (None, 2 * len(TABLES))
    assert "no such thing" in last.error
