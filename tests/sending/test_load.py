"""Load: what a batch needs, read with bounds; what is missing ends with its reason."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from projects.models import DkimKey, Domain
from relay_project.db.ids import hours_after, id_floor
from relay_project.db.partitions import Day, make_partition, partition_name, partitioned_tables
from sending.deliver.claim import ANY_PRIORITY
from sending.deliver.load import KeyCache, load
from sending.deliver.outcome import SUPPRESSED
from sending.deliver.prepare import prepare
from sending.deliver.room import Wanted
from sending.deliver.settle import settle
from sending.deliver.shaper import Shaper
from sending.deliver.take import Taker
from sending.models import Content, Recipient, Send, Suppression, Waiting
from tests.sending.scene import OK, Scene, answered, check_ledger


def test_a_job_has_its_recipients_its_parts_and_its_signers(scene: Scene) -> None:
    accepted = scene.send(
        "ann@one.example", "bob@one.example", "carol@two.example", subject="Grüße", body_html="<p>x</p>"
    )
    one, two = sorted(scene.jobs(), key=lambda job: job.domain)
    assert [target.address for target in one.targets] == ["ann@one.example", "bob@one.example"]
    assert [target.address for target in two.targets] == ["carol@two.example"]
    assert one.stored == two.stored
    assert one.stored is not None
    assert (one.stored.subject, one.stored.body_html) == ("Grüße", "<p>x</p>")
    assert [address for _, address, _ in one.stored.recipients] == [
        "ann@one.example", "bob@one.example", "carol@two.example"
    ]  # fmt: skip
    assert (one.send_id, one.project_id, one.queue_id) == (accepted.send_id, scene.project.pk, scene.queue.pk)
    assert one.tries == 1
    assert one.is_signable


def test_who_was_suppressed_since_the_accept_gets_nothing(scene: Scene) -> None:
    """Lesson C8: mail that was queued already is checked again, without case."""
    accepted = scene.send("Ann@One.example", "bob@one.example")
    Suppression.objects.create(project=scene.project, email="ann@one.example", reason="complaint")
    other = scene.other_project()
    Suppression.objects.create(project=other, email="bob@one.example", reason="bounce")
    job = scene.job()
    assert [target.is_suppressed for target in job.targets] == [True, False]
    outcome = answered(job, OK)
    told = tuple(
        type(r)(r.target, SUPPRESSED) if r.target.is_suppressed else r for r in outcome.recipients
    )  # as Talk does
    settle([type(outcome)(job, told)], timezone.now())
    assert scene.statuses(accepted) == ["suppressed", "accepted"]
    assert sorted(scene.kinds(accepted)) == ["accepted", "suppressed"]
    check_ledger()


@pytest.mark.parametrize("missing", [Content, Recipient, Send])
def test_a_mail_whose_rows_are_gone_ends_with_that_reason(scene: Scene, missing: type) -> None:
    """Lesson C3's twin: a missing body stood at the head of the queue for ever, once a second."""
    scene.send("ann@one.example")
    good = scene.send("bob@one.example")
    row = Waiting.objects.exclude(send_id=good.send_id).get()
    keys = {Content: Send.objects.get(pk=row.send_id).content_id, Recipient: row.recipient_id, Send: row.send_id}
    missing.objects.filter(pk=keys[missing]).delete()
    jobs = {job.send_id: job for job in scene.jobs()}
    job = jobs[row.send_id]
    assert job.stored is None
    assert job.trouble == "the stored message is gone"
    with pytest.raises(LookupError, match="the stored message is gone"):
        prepare(job)
    assert jobs[good.send_id].stored is not None, "nobody else suffers"
    assert [target.row.recipient_id for target in job.targets] == [row.recipient_id]


def test_a_batch_of_old_and_new_mail_finds_the_rows_of_both(scene: Scene) -> None:
    """The range of ids that every statement carries covers the oldest send as well as the newest."""
    new = scene.send("ann@one.example", "bob@one.example")
    old = scene.send("carol@one.example", "dan@one.example", body_text="old")
    day = (timezone.now() - timedelta(days=5)).date()
    with connection.cursor() as cursor:
        for table, column in partitioned_tables(cursor):
            make_partition(cursor, table, column, Day.of(day))
        by = id_floor(timezone.now()) - Day.of(day).floor - hours_after(0, 1)
        for statement in (
            "UPDATE sending_content SET id = id - %(by)s WHERE body_text = 'old'",
            "UPDATE sending_recipient SET id = id - %(by)s, send_id = send_id - %(by)s WHERE send_id = %(send)s",
            "UPDATE sending_send SET id = id - %(by)s, content_id = content_id - %(by)s WHERE id = %(send)s",
            "UPDATE sending_waiting SET recipient_id = recipient_id - %(by)s, send_id = send_id - %(by)s "
            "WHERE send_id = %(send)s",
        ):
            cursor.execute(statement, {"by": by, "send": old.send_id})
        cursor.execute(f'SELECT count(*) FROM "{partition_name("sending_recipient", day)}"')
        assert cursor.fetchone()[0] == 2
    jobs = {job.send_id: job for job in scene.jobs()}
    assert set(jobs) == {new.send_id, old.send_id - by}
    assert all(job.stored is not None and len(job.targets) == 2 for job in jobs.values())
    settle([answered(job, OK) for job in jobs.values()], timezone.now())
    assert set(Recipient.objects.values_list("status", flat=True)) == {"accepted"}
    check_ledger()


def test_keys_are_read_once_for_a_while_and_then_anew(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyCache()
    for _ in range(2):
        scene.send("ann@one.example")
    first, second = load(scene.claim(), keys, time.monotonic())
    assert first.signers is second.signers
    DkimKey.objects.filter(domain=scene.domain).update(selector="rly2")
    scene.send("ann@one.example")
    [third] = load(scene.claim(), keys, time.monotonic())
    assert third.signers is first.signers
    monkeypatch.setattr("sending.deliver.load.KEY_SECONDS", -1)
    scene.send("ann@one.example")
    [fourth] = load(scene.claim(), keys, time.monotonic())
    assert fourth.signers[0].selector == "rly2"


def test_mail_of_a_domain_that_was_removed_is_not_sent_unsigned(scene: Scene) -> None:
    scene.send("ann@one.example")
    Domain.objects.filter(pk=scene.domain.pk).delete()
    job = scene.job()
    assert [signer.domain for signer in job.signers] == ["relay.test"]
    assert not job.is_signable


def test_nothing_claimed_is_nothing_loaded(scene: Scene) -> None:
    assert load([], KeyCache(), 0) == []


def test_the_taker_isolates_what_cannot_be_read(scene: Scene) -> None:
    """One key that cannot be decrypted must not stop everybody's mail."""
    other = scene.other_project()
    bad = scene.send("ann@one.example", project=other)
    good = scene.send("bob@one.example")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE projects_dkimkey SET private_key = 'gAAAA' WHERE domain_id IN "
            "(SELECT id FROM projects_domain WHERE project_id = %s)",
            [other.pk],
        )
    wanted = Wanted(100, 2**20, ANY_PRIORITY)
    jobs = {job.send_id: job for job in Taker(scene.ring, Shaper()).take([scene.ip], wanted, timezone.now())}
    assert jobs[good.send_id].stored is not None
    assert jobs[bad.send_id].stored is None
    assert "Undecryptable" in jobs[bad.send_id].trouble


def test_a_taker_keeps_to_its_octets_and_what_is_over_keeps_its_place(scene: Scene) -> None:
    sends = [scene.send("ann@one.example", body_text="x\r\n" * 5000).send_id for _ in range(6)]
    taker = Taker(scene.ring, Shaper())
    taken = []
    for _ in range(6):
        jobs = taker.take([scene.ip], Wanted(100, 20_000, ANY_PRIORITY), timezone.now())
        assert jobs
        taken += [job.send_id for job in jobs]
        check_ledger()
    assert taken == sends, "first come, first served"
    assert set(Waiting.objects.values_list("tries", flat=True)) == {1}
