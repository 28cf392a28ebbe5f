"""sending.statistics: every recipient is counted once, where it stands, in the hour in which its mail was accepted."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from projects.events import NewEvent, emit
from relay_project.db.ids import hours_after, id_time
from relay_project.db.locks import STATISTICS
from sending.deliver.giveback import promote, sweep
from sending.deliver.settle import settle
from sending.models import (
    INSTANCE,
    DayCount,
    Dimension,
    HourCount,
    ReaderPosition,
    Recipient,
    SearchText,
    Send,
    Suppression,
    Waiting,
)
from sending.retention import delete_days, delete_hours
from sending.retry import retry
from sending.statistics import newcomers, outcomes
from sending.statistics.latency import BUCKETS, bucket_of, percentile
from sending.statistics.newcomers import read_latecomers, read_newcomers
from sending.statistics.outcomes import fold_outcomes
from sending.statistics.positions import read_lag
from sending.statistics.tally import FIGURES, OTHER, Mail, Tally, Way, hour_of
from tests.sending.rollup import count_up, sequence, take
from tests.sending.scene import LATER, MISSING, OK, Scene, answered, elsewhere, later


def figures(model: Any = HourCount, **of: Any) -> dict[str, int]:
    """The sums of the rows, without zeros."""
    rows = model.objects.filter(**of)
    sums = {name: sum(getattr(row, name) for row in rows) for name in FIGURES}
    return {name: number for name, number in sums.items() if number}


def of_project(scene: Scene, dimension: str = Dimension.PROJECT, **more: Any) -> dict[str, int]:
    return figures(project_id=scene.project.pk, dimension=dimension, **more)


def check(scene: Scene) -> None:
    """The roll-ups say what the rows say, in each table and dimension that covers everything."""
    statuses = Counter(Recipient.objects.filter(project_id=scene.project.pk).values_list("status", flat=True))
    for model in (HourCount, DayCount):
        for dimension in (Dimension.PROJECT, Dimension.DOMAIN, Dimension.QUEUE):
            found = figures(model, project_id=scene.project.pk, dimension=dimension)
            assert found.pop("total", 0) == sum(statuses.values())
            found.pop("deferrals", None)
            assert found == {status: n for status, n in statuses.items() if status != "queued"}
    assert not HourCount.objects.filter(deferred__lt=0), "no row is below zero"


def test_recipients_are_counted_by_where_they_stand(scene: Scene) -> None:
    scene.send(*(f"{name}@one.example" for name in ("ann", "bob", "carol")))
    scene.send("dan@two.example")
    settle([answered(scene.jobs()[0], OK, MISSING, LATER, site="google")], timezone.now())
    count_up()
    check(scene)
    assert of_project(scene) == {"total": 4, "accepted": 1, "bounced": 1, "deferred": 1, "deferrals": 1}
    tried = {"accepted": 1, "bounced": 1, "deferred": 1, "deferrals": 1}
    assert of_project(scene, Dimension.IP, key=str(scene.ip.id)) == tried
    assert of_project(scene, Dimension.PROVIDER, key="google") == tried
    assert of_project(scene, Dimension.DOMAIN, key="shop.example") == of_project(scene)
    assert figures(project_id=INSTANCE, dimension=Dimension.PROJECT, key=str(scene.project.pk)) == of_project(scene)
    assert figures(project_id=INSTANCE, dimension=Dimension.ALL) == of_project(scene)
    [row] = HourCount.objects.filter(project_id=scene.project.pk, dimension="project")
    assert len(row.latency) == BUCKETS
    assert sum(row.latency) == 1


def test_counting_again_changes_nothing_and_states_move(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    count_up()
    for reply, state in ((LATER, "deferred"), (LATER, "deferred"), (OK, "accepted")):
        promote(later(days=1))
        settle([answered(scene.job(later(days=1)), reply)], timezone.now())
        count_up()
        count_up()
        check(scene)
        assert of_project(scene)[state] == 1
    assert of_project(scene) == {"total": 1, "accepted": 1, "deferrals": 2}
    assert of_project(scene, Dimension.IP) == {"accepted": 1, "deferrals": 2}
    emit(told(scene, accepted.send_id, "complained"))
    Recipient.objects.update(status="complained")
    count_up()
    check(scene)
    assert of_project(scene, Dimension.IP) == {"complained": 1, "deferrals": 2}, (
        "a report belongs to the last try's way"
    )


def told(scene: Scene, send_id: int, status: str, **payload: Any) -> NewEvent:
    recipient = Recipient.objects.filter(send_id=send_id).earliest("position")
    return NewEvent(
        scene.project.pk, f"send.recipient.{status}", "send", send_id, {"recipient_id": recipient.pk, **payload}
    )


def test_a_late_bounce_counts_in_the_hour_of_its_mail(scene: Scene) -> None:
    """And not in the hour of the report: the rate of what was sent then becomes right."""
    accepted = scene.send("ann@one.example")
    settle([answered(scene.job(), OK)], timezone.now())
    count_up()
    [bounce] = emit(told(scene, accepted.send_id, "bounced"))
    day_later = hours_after(bounce, 26)
    with connection.cursor() as cursor:
        for table, column in (("projects_event", "id"), ("projects_eventoutbox", "event_id")):
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", [day_later, bounce])
    count_up()
    [row] = HourCount.objects.filter(project_id=scene.project.pk, dimension="project")
    assert row.hour == hour_of(id_time(accepted.send_id))
    assert (row.accepted, row.bounced, row.total) == (0, 1, 1)


def test_a_failed_recipient_that_is_retried_is_not_counted_twice(scene: Scene) -> None:
    accepted = scene.send("ann@one.example")
    emit(told(scene, accepted.send_id, "failed"))
    Recipient.objects.update(status="failed")
    Waiting.objects.all().delete()
    count_up()
    retry(Send.objects.get(pk=accepted.send_id), timezone.now())
    settle([answered(scene.job(), OK)], timezone.now())
    count_up()
    check(scene)
    assert of_project(scene) == {"total": 1, "accepted": 1}


def test_suppressed_lost_and_expired_recipients_are_counted(scene: Scene) -> None:
    Suppression.objects.create(project=scene.project, email="gone@one.example", reason="bounce")
    scene.send("gone@one.example", "ann@one.example")
    scene.claim()
    Waiting.objects.update(due_at=later(seconds=-1), lease_until=later(seconds=-1))
    sweep(timezone.now())
    count_up()
    check(scene)
    assert of_project(scene) == {"total": 2, "suppressed": 1, "deferred": 1, "deferrals": 1}
    assert of_project(scene, Dimension.PROVIDER) == {"deferred": 1, "deferrals": 1}


def test_batches_of_any_size_come_to_the_same_sums(scene: Scene) -> None:
    for number in range(5):
        scene.send(f"a{number}@one.example", f"b{number}@two.example")
    for reply in (LATER, OK):
        promote(later(days=1))
        settle([answered(job, reply) for job in scene.jobs(now=later(days=1))], timezone.now())
    assert take(limit=2) == 5
    while sequence():
        pass
    assert [fold_outcomes(3) for _ in range(10)] == [3] * 8 + [1, 0], "five of 25 are of mail that was queued"
    check(scene)
    assert of_project(scene) == {"total": 10, "accepted": 10, "deferrals": 10}


def test_events_read_in_an_order_that_is_not_their_ids_come_to_the_same_sums(scene: Scene) -> None:
    """Positions follow the commits; what an event takes away is what the one before it by id added."""
    accepted = scene.send("ann@one.example")
    first, second = emit(told(scene, accepted.send_id, "deferred"), told(scene, accepted.send_id, "accepted"))
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO projects_feedposition (event_id) VALUES (%s), (%s)", [second, first])
        cursor.execute("DELETE FROM projects_eventoutbox")
    assert (fold_outcomes(1), fold_outcomes(1)) == (1, 1)
    assert of_project(scene) == {"accepted": 1, "deferrals": 1}


def test_events_that_are_about_no_mail_are_passed_over(scene: Scene) -> None:
    emit(
        NewEvent(scene.project.pk, "domain.created", "domain", 7, {}),
        NewEvent(scene.project.pk, "send.recipient.accepted", "send", 5, {}),
        NewEvent(scene.project.pk, "send.recipient.accepted", "send", hours_after(1, 1), {"recipient_id": 3}),
    )
    count_up()
    assert not HourCount.objects.exists()
    assert ReaderPosition.objects.get(name="outcomes").position > 0


def test_each_project_counts_its_own(scene: Scene) -> None:
    other = scene.other_project()
    scene.send("ann@one.example")
    scene.send("ann@one.example", "bob@one.example", project=other)
    count_up()
    assert of_project(scene) == {"total": 1}
    assert figures(project_id=other.pk, dimension="project") == {"total": 2}
    assert figures(project_id=INSTANCE, dimension="all") == {"total": 3}


# --- Exactly once ----------------------------------------------------------------------------------------------------


def test_a_crash_before_the_commit_counts_nothing_and_the_next_run_everything(scene: Scene, monkeypatch: Any) -> None:
    scene.send("ann@one.example")
    settle([answered(scene.job(), OK)], timezone.now())
    sequence()

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(outcomes, "move", die)
        broken.setattr(newcomers, "move", die)
        with pytest.raises(RuntimeError):
            fold_outcomes()
        with pytest.raises(RuntimeError):
            take()
    assert not HourCount.objects.exists()
    assert not SearchText.objects.exists()
    count_up()
    check(scene)
    assert of_project(scene) == {"total": 1, "accepted": 1}


def test_an_event_that_commits_late_is_counted(open_scene: Scene) -> None:
    """Two interleaved transactions: the one with the lower id commits last."""
    scene = open_scene
    first, second = scene.send("ann@one.example"), scene.send("bob@one.example")
    with elsewhere() as other:
        other(lambda: connection.set_autocommit(False))
        other(lambda: emit(told(scene, first.send_id, "accepted")))
        emit(told(scene, second.send_id, "bounced"))
        count_up()
        assert of_project(scene) == {"total": 2, "bounced": 1}
        other(lambda: connection.commit())
        other(lambda: connection.set_autocommit(True))
    count_up()
    assert of_project(scene) == {"total": 2, "accepted": 1, "bounced": 1}


def test_mail_that_commits_after_the_tail_was_read_is_counted_by_the_second_reading(open_scene: Scene) -> None:
    scene = open_scene
    with elsewhere() as other:
        other(lambda: transaction.atomic().__enter__())
        late = other(lambda: connection.set_rollback(False) or scene.send("ann@one.example"))
        scene.send("bob@one.example")
        assert take() == 1
        other(lambda: connection.connection.commit() or connection.close())
    assert take() == 0, "its id was passed"
    assert of_project(scene) == {"total": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newcomers, "LATE_LAG", timedelta(seconds=-1))
        assert read_latecomers() == 2
        assert read_latecomers() == 0
    assert of_project(scene) == {"total": 2}
    assert SearchText.objects.filter(pk=late.send_id).exists()


def test_one_reader_at_a_time(open_scene: Scene) -> None:
    open_scene.send("ann@one.example")
    with elsewhere() as other:
        other(lambda: transaction.atomic().__enter__())

        def lock() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STATISTICS])

        other(lock)
        assert take() == 0
        other(lambda: connection.connection.rollback())
    assert take() == 1


def test_mail_is_left_for_a_moment_until_those_beside_it_have_committed(scene: Scene) -> None:
    scene.send("ann@one.example")
    assert read_newcomers() == 0
    assert read_latecomers() == 0
    assert take() == 1


# --- Bounds ----------------------------------------------------------------------------------------------------------


def test_only_so_many_tags_of_a_projects_day_have_a_row(scene: Scene) -> None:
    hour = hour_of(timezone.now())
    for start in (0, 60):
        counted = Tally()
        for number in range(start, start + 60):
            counted.add(Mail(scene.project.pk, hour, "a.example", 1, (f"tag-{number}",)), None, "total")
        with connection.cursor() as cursor:
            counted.write(cursor, timezone.now())
    rows = dict(DayCount.objects.filter(dimension="tag").values_list("key", "total"))
    assert len(rows) == 101
    assert rows[OTHER] == 20
    assert set(rows.values()) == {1, 20}


def test_sites_without_a_provider_share_a_row(scene: Scene) -> None:
    counted = Tally()
    for site in ("mx.one.example", "mx.two.example", ""):
        counted.add(Mail(1, hour_of(timezone.now()), "a.example", 1), Way(None, site), "accepted")
    with connection.cursor() as cursor:
        counted.write(cursor, timezone.now())
    assert figures(project_id=1, dimension="provider", key="other") == {"accepted": 3}
    assert not HourCount.objects.filter(dimension="ip").exists()


def test_hours_leave_before_days_and_are_not_made_anew(scene: Scene) -> None:
    now = timezone.now()
    counted = Tally()
    for days in (0, 33, 40, 800):
        counted.add(Mail(1, hour_of(now - timedelta(days=days)), "a.example", 1), None, "total")
    with connection.cursor() as cursor:
        counted.write(cursor, now)
    mine = {"project_id": 1, "dimension": "project"}
    assert HourCount.objects.filter(**mine).count() == 2, "an hour that is no longer kept stays away"
    assert DayCount.objects.filter(**mine).count() == 4
    assert delete_hours(later(days=4)) == 6
    assert HourCount.objects.filter(**mine).count() == 1
    assert delete_days(now) == 6
    assert DayCount.objects.filter(**mine).count() == 3


def test_percentiles_lie_within_their_bucket() -> None:
    assert [bucket_of(seconds) for seconds in (0.0, 0.05, 0.051, 43_201)] == [0, 0, 1, BUCKETS - 1]
    counts = [0] * BUCKETS
    assert percentile(counts, 50) is None
    counts[bucket_of(0.2)], counts[bucket_of(20)] = 90, 10
    assert 0.1 < percentile(counts, 50) < 0.25
    assert 10 < percentile(counts, 99) <= 30
    assert percentile([0] * (BUCKETS - 1) + [3], 99) == 43_200.0


def test_the_lag_is_the_age_of_what_was_not_counted(scene: Scene) -> None:
    assert read_lag() == {"outcomes": 0.0, "newcomers": 0.0}
    accepted = scene.send("ann@one.example")
    take()
    emit(told(scene, accepted.send_id, "accepted"))
    sequence()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE projects_feedposition SET event_id = %s", [hours_after(accepted.send_id, -1)])
    ReaderPosition.objects.filter(name="newcomers").update(position=hours_after(accepted.send_id, -0.5))
    lag = read_lag()
    assert 3590 < lag["outcomes"] < 3700
    assert 1790 < lag["newcomers"] < 1900
