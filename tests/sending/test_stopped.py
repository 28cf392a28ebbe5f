"""What becomes of the mail of suspended and archived projects: held and unaged, or cancelled; never sent, never lost."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from projects.life import archive, resume, suspend
from projects.models import Project
from relay_project.web.errors import ApiError
from sending.accept.request import Refused
from sending.backlog.depth import oldest_due_seconds
from sending.backlog.expire import Sweep
from sending.backlog.stopped import archive_project, cancel_archived, count_waiting, stopped_projects, unhang
from sending.backlog.why import why
from sending.deliver.giveback import give_back, hold_rows
from sending.deliver.held import HeldMail, Hold, held_key
from sending.deliver.shaper import Shaper
from sending.explain import Kind
from sending.models import Phase, Recipient, Send, Waiting
from sending.retry import RetryRefused, retry
from tests.sending.scene import check_ledger, given_back, in_threads, later


def now():
    return timezone.now()


def fresh(scene) -> Project:
    return Project.objects.get(pk=scene.project.pk)


# --- Suspended -------------------------------------------------------------------------------------------------------


def test_a_suspended_project_sends_nothing_and_goes_on_when_it_is_resumed(scene):
    first = scene.send("ann@one.example")
    suspend(scene.project, "spam", now())
    assert scene.claim() == []
    with pytest.raises(Refused, match="This project is suspended: spam") as refused:
        scene.send("bob@one.example", project=fresh(scene))
    assert refused.value.status == 403
    check_ledger()
    resume(scene.project, now())
    assert [row.send_id for row in scene.claim()] == [first.send_id]
    scene.send("bob@one.example", project=fresh(scene))


def test_other_projects_are_not_held_up(scene):
    other = scene.other_project()
    scene.send("ann@one.example")
    theirs = scene.send("ann@one.example", project=other)
    suspend(scene.project, "spam", now())
    assert [row.send_id for row in scene.claim()] == [theirs.send_id]


def test_a_ring_that_knew_the_project_claims_nothing_of_it_either(scene):
    scene.send("ann@one.example")
    scene.ring.forget()
    scene.ring._discover_if_stale(scene.ip)
    suspend(scene.project, "spam", now())
    assert scene.ring.claim(scene.ip, 10, 60.0, now()) == []


def test_every_mail_says_that_its_project_is_suspended_and_why(scene):
    accepted = scene.send("ann@one.example")
    suspend(scene.project, "A leaked key", now())
    send = Send.objects.get(pk=accepted.send_id)
    [reason] = why(send, list(Recipient.objects.filter(send_id=send.pk)), now()).values()
    assert (reason.kind, reason.text) == (
        Kind.PROJECT_SUSPENDED,
        "This project is suspended: A leaked key. Nothing of it leaves until staff resume it.",
    )


def test_the_time_of_a_suspension_does_not_count_towards_the_lifetime(scene, settings):
    settings.MAIL_LIFETIME = timedelta(hours=3)
    accepted = scene.send("ann@one.example")
    suspend(scene.project, "spam", later(hours=1))
    assert Sweep().run(later(hours=50), 5) == 0, "nothing expires meanwhile"
    resume(scene.project, later(hours=50))
    assert Sweep().run(later(hours=51), 5) == 0, "two hours old"
    assert Sweep().run(later(hours=53), 5) == 1
    assert scene.statuses(accepted) == ["failed"]


def test_mail_that_stands_because_of_a_suspension_is_no_alarm(scene):
    scene.send("ann@one.example")
    suspend(scene.project, "spam", now())
    assert oldest_due_seconds(later(hours=1)) == 0


def hung(scene, accepted) -> Waiting:
    """A send's mail, hanging at its site."""
    rows = scene.claim()
    hold_rows([(row, Hold(held_key(row, "site.example"), -60, "slow")) for row in rows], now())
    return Waiting.objects.get(send_id=accepted.send_id)


def held_claim(scene):
    mail = HeldMail(Shaper(set()))
    return mail.take([scene.ip], 10, scene.sender.pk, 60.0, now(), 32_767)


def test_held_mail_of_a_suspended_project_is_not_taken_and_the_others_is(scene):
    mine = hung(scene, scene.send("ann@one.example"))
    theirs = hung(scene, scene.send("ann@two.example", project=scene.other_project()))
    suspend(scene.project, "spam", now())
    assert [row.recipient_id for row in held_claim(scene)] == [theirs.recipient_id]
    assert unhang() == 1
    mine.refresh_from_db()
    assert (mine.phase, mine.held_site_id) == (Phase.DUE, None)
    check_ledger()
    assert scene.claim() == []
    resume(scene.project, now())
    assert [row.recipient_id for row in scene.claim()] == [mine.recipient_id]


def test_nothing_failed_is_tried_again_while_the_project_is_suspended(scene):
    accepted = scene.send("ann@one.example")
    Recipient.objects.filter(send_id=accepted.send_id).update(status="failed")
    Waiting.objects.all().delete()
    suspend(scene.project, "spam", now())
    with pytest.raises(RetryRefused, match="suspended: spam"):
        retry(Send.objects.get(pk=accepted.send_id), now())


def test_what_is_in_flight_when_it_is_suspended_comes_back_and_waits(scene):
    accepted = scene.send("ann@one.example")
    job = scene.job()
    suspend(scene.project, "spam", now())
    assert stopped_projects() == {scene.project.pk}
    give_back([given_back(job)], now())
    assert scene.claim() == []
    assert scene.waiting(accepted)[0].tries == 0
    check_ledger()


def test_a_suspension_in_the_midst_of_claims_lets_no_later_claim_through(open_scene):
    """Claims race with the suspension: whatever began after its commit takes nothing, and nothing is lost."""
    from sending.deliver.claim import Ring

    scene = open_scene
    for number in range(40):
        scene.send(f"a{number}@one.example")
    done = threading.Event()

    def work(index: int) -> list[bool]:
        """For each claim that found something: whether it had begun after the suspension was committed."""
        if index == 0:
            suspend(scene.project, "spam", now())
            done.set()
            return []
        ring, found = Ring(scene.sender.pk), []
        for _ in range(10):
            began_after = done.is_set()
            if scene.claim(2, ring=ring):
                found.append(began_after)
        return found

    with in_threads(4) as run:
        found = [late for each in run(work) for late in each]
    assert not any(found)
    check_ledger()
    claimed = Waiting.objects.filter(attempt_id__isnull=False).count()
    assert Waiting.objects.count() == 40
    assert claimed <= 40


# --- Archived --------------------------------------------------------------------------------------------------------


def test_a_project_with_waiting_mail_is_archived_only_if_that_shall_be_cancelled(scene):
    accepted = scene.send("ann@one.example", "bob@two.example")
    with pytest.raises(ApiError, match="2 of this project's recipients still wait") as refused:
        archive_project(scene.project, False, now())
    assert refused.value.status == 400
    assert fresh(scene).archived_at is None
    assert archive_project(scene.project, True, now()) == 2
    assert scene.statuses(accepted) == ["cancelled", "cancelled"]
    assert scene.kinds(accepted) == ["cancelled", "cancelled"]
    assert count_waiting(scene.project) == 0
    check_ledger()
    with pytest.raises(Refused, match="archived"):
        scene.send("ann@one.example", project=fresh(scene))


def test_a_project_of_which_nothing_waits_is_archived_without_more_ado(scene):
    assert archive_project(scene.project, False, now()) == 0
    assert fresh(scene).archived_at is not None


def test_what_comes_back_to_an_archived_project_is_cancelled_as_well(scene):
    accepted = scene.send("ann@one.example")
    job = scene.job()
    assert archive_project(scene.project, True, now()) == 0, "it is in conversation"
    assert cancel_archived(later(minutes=5), 5) == 0
    assert fresh(scene).emptied_at is None
    give_back([given_back(job)], now())
    assert scene.claim() == []
    assert cancel_archived(later(minutes=6), 5) == 1
    assert scene.statuses(accepted) == ["cancelled"]
    assert fresh(scene).emptied_at is not None
    check_ledger()


def test_other_projects_mail_is_left_alone(scene):
    other = scene.other_project()
    theirs = scene.send("ann@one.example", project=other)
    scene.send("ann@one.example")
    archive(scene.project, now())
    assert cancel_archived(now(), 5) == 1
    assert scene.statuses(theirs) == ["queued"]


def test_many_recipients_are_cancelled_in_steps_and_the_rest_by_the_next_run(scene, monkeypatch):
    monkeypatch.setattr("sending.backlog.stopped.ROWS", 2)
    for number in range(5):
        scene.send(f"a{number}@one.example")
    archive(scene.project, now())
    assert cancel_archived(now(), 0) == 0
    assert cancel_archived(now(), 5) == 5
