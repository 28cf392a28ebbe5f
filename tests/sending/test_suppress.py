"""Who is suppressed: in a project, in a list, everywhere; until when; and when that is asked."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from projects.models import Event
from sending.deliver.settle import settle
from sending.models import Phase, Recipient, Send, Suppression, SuppressionReason, Waiting
from sending.retry import retry
from sending.suppress import InvalidList, NewSuppression, list_key, standing_among, suppress_many, suppressed_among
from tests.sending.scene import LATER, MISSING, OK, Scene, answered, check_ledger, later

ANN, BOB = "ann@one.example", "bob@one.example"


def suppress(scene: Scene, email: str = ANN, **fields: Any) -> Suppression:
    scope = {} if {"project", "list_project"} & fields.keys() else {"project": scene.project}
    return Suppression.objects.create(email=email, **{"reason": "manual", **scope, **fields})


def everywhere(scene: Scene) -> Suppression:
    return suppress(scene, project=None)


def in_list(scene: Scene, name: str = "news") -> Suppression:
    return suppress(scene, project=None, list_project=scene.project, list=name)


# --- At accept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["Ann@One.Example", "ANN@ONE.EXAMPLE", "ann@one.example"])
@pytest.mark.parametrize("make", [suppress, everywhere])
def test_a_suppressed_address_gets_nothing_however_it_is_spelled(
    scene: Scene, make: Callable[[Scene], object], spelling: str
) -> None:
    """Lesson C8: matching and storing was case-sensitive."""
    make(scene)
    assert scene.statuses(scene.send(spelling, BOB)) == ["suppressed", "queued"]


def test_what_is_suppressed_in_a_list_gets_all_other_mail(scene: Scene) -> None:
    """Lesson C8: there was no scope but the project."""
    in_list(scene)
    assert scene.statuses(scene.send(ANN, list="news")) == ["suppressed"]
    assert scene.statuses(scene.send(ANN, list="offers")) == ["queued"]
    assert scene.statuses(scene.send(ANN)) == ["queued"]


def test_what_is_suppressed_in_the_project_gets_no_lists_mail_either(scene: Scene) -> None:
    suppress(scene)
    assert scene.statuses(scene.send(ANN, list="news")) == ["suppressed"]


def test_another_projects_rows_are_nothing_to_us(scene: Scene) -> None:
    other = scene.other_project()
    suppress(scene, project=other)
    suppress(scene, project=None, list_project=other, list="news")
    assert scene.statuses(scene.send(ANN, list="news")) == ["queued"]
    assert scene.statuses(scene.send(ANN, list="news", project=other)) == ["suppressed"]


def test_a_row_whose_time_is_over_suppresses_nothing(scene: Scene) -> None:
    """Lesson C8: there was no expiry."""
    row = suppress(scene, expires_at=later(hours=1))
    assert scene.statuses(scene.send(ANN)) == ["suppressed"]
    row.expires_at = later(seconds=-1)
    row.save()
    assert scene.statuses(scene.send(ANN)) == ["queued"]


def test_mails_of_a_batch_are_each_asked_for_their_own_list(scene: Scene) -> None:
    from sending.accept.accept import accept_many

    in_list(scene, "news")
    requests = [scene.request(ANN, list=name) for name in ("news", "offers", None)]
    accepted = accept_many(scene.project, requests, timezone.now())
    assert [scene.statuses(one) for one in accepted] == [["suppressed"], ["queued"], ["queued"]]


# --- At delivery ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [suppress, everywhere, in_list])
def test_who_is_suppressed_while_the_mail_waits_gets_nothing(scene: Scene, make: Callable[[Scene], object]) -> None:
    """Lesson C8: sends already queued were not re-checked at delivery time."""
    scene.send(ANN, BOB, list="news")
    make(scene)
    job = scene.job()
    assert [target.is_suppressed for target in job.targets] == [True, False]
    check_ledger()


@pytest.mark.parametrize("make", [suppress, everywhere, in_list])
def test_who_is_suppressed_between_two_tries_gets_no_second_one(scene: Scene, make: Callable[[Scene], object]) -> None:
    accepted = scene.send(ANN, list="news")
    settle([answered(scene.job(), LATER)], timezone.now())
    assert scene.statuses(accepted) == ["deferred"]
    make(scene)
    Waiting.objects.filter(send_id=accepted.send_id).update(phase=Phase.DUE, due_at=timezone.now())
    assert scene.job().targets[0].is_suppressed


def test_a_list_row_leaves_the_projects_waiting_mail_alone(scene: Scene) -> None:
    scene.send(ANN)
    in_list(scene)
    assert not scene.job().targets[0].is_suppressed


# --- At retry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [suppress, everywhere, in_list])
def test_trying_again_leaves_out_who_was_suppressed_since(scene: Scene, make: Callable[[Scene], object]) -> None:
    accepted = scene.send(ANN, BOB, list="news")
    Waiting.objects.filter(send_id=accepted.send_id).delete()
    Recipient.objects.filter(send_id=accepted.send_id).update(status="failed")
    make(scene)
    assert retry(Send.objects.get(pk=accepted.send_id), timezone.now()) == 1
    assert scene.statuses(accepted) == ["suppressed", "queued"]
    assert scene.kinds(accepted) == ["suppressed"]
    check_ledger()


# --- Upsert --------------------------------------------------------------------------------------------------------


def bounce(scene: Scene, address: str = ANN) -> list[tuple[int, int, str]]:
    with connection.cursor() as cursor:
        return suppress_many(
            cursor, [NewSuppression(scene.project.pk, address, SuppressionReason.BOUNCE, "550 5.1.1 no such user")]
        )


@pytest.mark.parametrize("reason", SuppressionReason.values)
def test_a_second_reason_changes_nothing_and_raises_nothing(scene: Scene, reason: str) -> None:
    """Lesson C7: a second bounce of an address, or a complaint after one, was an exception."""
    row = suppress(scene, reason=reason)
    assert bounce(scene) == []
    assert bounce(scene, "ANN@one.example") == []
    after = Suppression.objects.get()
    assert (after.pk, after.reason, after.description) == (row.pk, reason, None)


def test_a_mailbox_that_is_gone_outlives_the_end_that_somebody_set(scene: Scene) -> None:
    row = suppress(scene, expires_at=later(days=1))
    assert bounce(scene) == [], "it is not new"
    row.refresh_from_db()
    assert (row.expires_at, row.reason) == (None, "manual")


def test_a_row_whose_time_is_over_is_as_good_as_none(scene: Scene) -> None:
    old = suppress(scene, expires_at=later(days=-1))
    old_time = old.created_at
    assert [email for _, _, email in bounce(scene)] == [ANN]
    after = Suppression.objects.get()
    assert (after.reason, after.description, after.expires_at) == ("bounce", "550 5.1.1 no such user", None)
    assert after.created_at >= old_time


def test_a_bounce_tells_what_it_wrote(scene: Scene) -> None:
    scene.send(ANN)
    settle([answered(scene.job(), MISSING)], timezone.now())
    event = Event.objects.get(kind="suppression.created")
    row = Suppression.objects.get()
    assert event.subject_id == row.pk
    assert event.payload == {
        "email": ANN, "reason": "bounce", "description": row.description, "list": None, "expires_at": None
    }  # fmt: skip


# --- Look-ups ------------------------------------------------------------------------------------------------------


def test_a_look_up_gives_the_addresses_as_they_were_given(scene: Scene) -> None:
    suppress(scene)
    in_list(scene, "news")
    suppress(scene, BOB, project=None, list_project=scene.project, list="news")
    with connection.cursor() as cursor:
        project = scene.project.pk
        assert suppressed_among(cursor, project, ["ANN@one.example", BOB, "carol@x.example"]) == {"ANN@one.example"}
        assert suppressed_among(cursor, project, [BOB], "news") == {BOB}
        assert suppressed_among(cursor, project, []) == set()
        standing = standing_among(cursor, project, [BOB], {"news"})
    assert (standing.suppresses(BOB), standing.suppresses(BOB, "news"), standing.suppresses(BOB, "x")) == (
        False, True, False
    )  # fmt: skip


@pytest.mark.parametrize("name", ["News", " news ", "NEWS", "ｎｅｗｓ"])
def test_a_lists_name_has_one_spelling(name: str) -> None:
    assert list_key(name) == "news"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 65, "\ud800", "\u202e", "x" * 10_000])
def test_what_is_no_name_for_a_list(name: str) -> None:
    with pytest.raises(InvalidList):
        list_key(name)


def test_no_transaction_settles_longer_for_it(scene: Scene) -> None:
    """Mail that nobody suppressed asks once a batch and project, with or without lists."""
    from django.test.utils import CaptureQueriesContext

    from sending.deliver.claim import by_attempt
    from sending.deliver.load import KeyCache, load

    for number in range(20):
        scene.send(f"p{number}@one.example", list="news" if number % 2 else None)
    rows = scene.claim()
    with CaptureQueriesContext(connection) as queries:
        jobs = load(rows, KeyCache(), 0.0)
    assert len(jobs) == len(by_attempt(rows)) == 20
    assert sum("sending_suppression" in query["sql"] for query in queries.captured_queries) == 1
    settle([answered(job, OK) for job in jobs], timezone.now() + timedelta(seconds=1))
    check_ledger()
