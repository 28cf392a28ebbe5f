"""A project that keeps its content for less: bodies go early, facts stay."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from ips.models import SourceIp
from relay_project import retention
from sending import forget
from sending.content import raw_message
from sending.forget import forget_contents, forget_inbox
from sending.journey import read_journey
from sending.models import (
    Attempt,
    Content,
    ForgottenDay,
    Phase,
    Recipient,
    SandboxMessage,
    Send,
    Signature,
    Waiting,
)
from sending.retry import NO_CONTENT, RetryRefused, retry
from tests.history import ago, happened, make_days
from tests.sending.scene import Scene, check_ledger


@pytest.fixture
def shop(scene: Scene) -> Scene:
    """Content for a week; partitions of the last ten days."""
    with connection.cursor() as cursor:
        make_days(cursor, [ago(days) for days in range(11)])
    scene.project.content_days = 7
    scene.project.save()
    return scene


def old(scene: Scene, days: int, **fields: object) -> Send:
    return happened(scene.project, ago(days), domain=scene.domain, queue=scene.queue, **fields)  # type: ignore[arg-type]


def kept() -> set[int]:
    return set(Content.objects.values_list("pk", flat=True))


def waits(send: Send) -> Waiting:
    recipient = Recipient.objects.get(send_id=send.pk)
    Recipient.objects.filter(pk=recipient.pk).update(status="deferred")
    return Waiting.objects.create(
        recipient_id=recipient.pk, send_id=send.pk, project_id=send.project_id, queue_id=send.queue_id,
        lane=send.queue_id, domain="one.example", size_bytes=1, phase=Phase.LATER, due_at=timezone.now() + timedelta(1),
    )  # fmt: skip


def test_bodies_and_signatures_go_and_the_rest_stays(shop: Scene) -> None:
    sends = [old(shop, days) for days in (10, 9, 9, 6)]
    assert forget_contents(timezone.now()) == 3
    assert kept() == {sends[3].content_id}
    assert list(Signature.objects.values_list("pk", flat=True)) == [sends[3].pk]
    assert (Send.objects.count(), Recipient.objects.count(), Attempt.objects.count()) == (4, 4, 4)
    assert forget_contents(timezone.now()) == 0


def test_other_projects_and_those_without_a_choice_are_left_alone(shop: Scene) -> None:
    other = shop.other_project()
    send = happened(other, ago(10), domain=shop.domain, queue=shop.queue)
    assert forget_contents(timezone.now()) == 0
    assert kept() == {send.content_id}


def test_content_of_mail_that_waits_stays_until_it_is_final(shop: Scene) -> None:
    send, gone = old(shop, 10), old(shop, 10)
    row = waits(send)
    now = timezone.now()
    assert forget_contents(now) == 1
    assert kept() == {send.content_id}
    assert gone.content_id not in kept()
    assert ForgottenDay.objects.get(day=ago(10)).kept_back == 1
    row.delete()
    Recipient.objects.update(status="accepted")
    assert forget_contents(now + timedelta(hours=1)) == 0, "a day with something left is looked at once a day"
    assert forget_contents(now + timedelta(hours=21)) == 1
    check_ledger()


def test_content_that_several_sends_share_stays_as_long_as_one_of_them_waits(
    shop: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forget, "PAGE", 1)
    first = old(shop, 10)
    row = waits(old(shop, 10, content_id=first.content_id))
    old(shop, 10, content_id=first.content_id)
    assert forget_contents(timezone.now()) == 0
    row.delete()
    assert forget_contents(timezone.now() + timedelta(hours=21)) == 1


def test_a_scheduled_send_counts_from_its_time(shop: Scene) -> None:
    now = timezone.now()
    send = old(shop, 10, message_date=now - timedelta(days=2))
    assert forget_contents(now) == 0
    assert kept() == {send.content_id}
    assert forget_contents(now + timedelta(days=6)) == 1


def test_what_is_forgotten_cannot_be_retried_and_is_said_to_be_gone(shop: Scene) -> None:
    send = old(shop, 10, status="failed")
    forget_contents(timezone.now())
    assert raw_message(send) is None
    with pytest.raises(RetryRefused, match=NO_CONTENT):
        retry(send, timezone.now())
    assert not Waiting.objects.exists()


def test_a_retry_that_was_faster_keeps_its_content(shop: Scene) -> None:
    """It locks the content until its commit; what deletes looks for waiting mail after it has the lock."""
    send = old(shop, 10, status="failed")
    retry(send, timezone.now())
    assert forget_contents(timezone.now()) == 0
    assert raw_message(send) is not None


def test_a_send_whose_attempts_are_gone_says_so(shop: Scene) -> None:
    send = old(shop, 10)
    Recipient.objects.update(try_count=1)
    Attempt.objects.all().delete()
    assert "What was tried is no longer kept" in [step.title for step in read_journey(send, timezone.now()).steps]
    assert SourceIp.objects.exists()


def test_the_sandbox_inbox_of_such_a_project_is_emptied_too(shop: Scene) -> None:
    SandboxMessage.objects.create(project_id=shop.project.pk, data=b"x")
    SandboxMessage.objects.create(project_id=shop.project.pk + 1, data=b"x")
    assert forget_inbox(timezone.now() + timedelta(days=6)) == 0
    assert forget_inbox(timezone.now() + timedelta(days=8)) == 1
    assert SandboxMessage.objects.count() == 1


def test_it_is_one_of_the_sweeps() -> None:
    assert "content of projects" in {sweep.name for sweep in retention.sweeps()}


def test_days_that_are_dropped_are_forgotten_themselves(shop: Scene) -> None:
    ForgottenDay.objects.create(project_id=shop.project.pk, day=ago(50), looked_at=timezone.now())
    forget_contents(timezone.now())
    assert not ForgottenDay.objects.filter(day=ago(50)).exists()
