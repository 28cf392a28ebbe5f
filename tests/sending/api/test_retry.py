"""sending.retry and `POST /sends/{id}/retry`: what waits is due now, what failed waits anew."""

from datetime import UTC, datetime, timedelta

import pytest

from relay_project import jobs
from sending.backlog.ledger import read_ledger
from sending.models import Phase, Recipient, Send, Waiting
from sending.retry import RetryRefused, retry

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def failed(api) -> Send:
    """A send that was given up for two recipients, accepted for one."""
    send_id = api.send(to=["a@x.example.test", "b@y.example.test", "c@y.example.test"])
    Waiting.objects.filter(send_id=send_id).delete()
    Recipient.objects.filter(send_id=send_id).update(status="failed", try_count=7)
    Recipient.objects.filter(send_id=send_id, address="c@y.example.test").update(status="accepted", try_count=1)
    return Send.objects.get(pk=send_id)


def states(send: Send) -> list[tuple[str, int]]:
    return list(Recipient.objects.filter(send_id=send.pk).order_by("position").values_list("status", "try_count"))


@pytest.fixture
def woken(monkeypatch) -> list[str]:
    """The queues that were woken, in commit order."""
    calls: list[str] = []
    monkeypatch.setattr(jobs, "wake", lambda task, queue: calls.append(queue))
    return calls


def test_failed_recipients_wait_anew(failed, woken, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        assert retry(failed, NOW) == 2
    assert states(failed) == [("queued", 0), ("queued", 0), ("accepted", 1)]
    rows = list(Waiting.objects.filter(send_id=failed.pk).order_by("recipient_id"))
    assert [(w.domain, w.phase, w.due_at, w.tries, w.lane, w.queue_id) for w in rows] == [
        (domain, Phase.DUE, NOW, 0, failed.queue_id, failed.queue_id) for domain in ("x.example.test", "y.example.test")
    ]
    assert [(w.size_bytes, w.project_id) for w in rows] == [(failed.size_bytes, failed.project_id)] * 2
    assert woken == [jobs.drain_queue(failed.queue_id)]


@pytest.mark.parametrize("status", ["suspended", "pending"])
def test_a_domain_that_may_not_send_tries_nothing_again(api, domain, failed, status):
    """Staff suspend a domain to stop its mail; its owner brought back what had failed by trying again."""
    domain.status = status
    domain.save()
    response = api.post(f"/sends/{failed.pk}/retry")
    assert response.status_code == 400
    assert response.json()["message"] == f"Domain shop.example.test is not allowed to send emails (status: {status})"
    assert not Waiting.objects.filter(send_id=failed.pk).exists()


def test_mail_of_a_deleted_domain_is_still_tried_again(domain, failed):
    type(domain).objects.filter(pk=domain.pk).delete()
    assert retry(failed, NOW) == 2


def test_the_ledger_stays_true(failed):
    retry(failed, datetime.now(UTC))
    assert read_ledger().is_good


def test_a_retry_may_be_scheduled(failed, woken, django_capture_on_commit_callbacks):
    later = NOW + timedelta(days=2)
    with django_capture_on_commit_callbacks(execute=True):
        assert retry(failed, NOW, int(later.timestamp())) == 2
    assert {(w.phase, w.due_at) for w in Waiting.objects.filter(send_id=failed.pk)} == {(Phase.LATER, later)}
    assert woken == []


def test_only_the_listed_recipients_are_tried_again(failed):
    _, second, accepted = Recipient.objects.filter(send_id=failed.pk).order_by("position")
    assert retry(failed, NOW, recipient_ids=[second.pk, accepted.pk, 5, 2**63, -1]) == 1
    assert states(failed) == [("failed", 7), ("queued", 0), ("accepted", 1)]


@pytest.mark.parametrize("recipient_ids", [[], [1], [2**70], [0]])
def test_none_of_the_listed_recipients_failed(failed, recipient_ids):
    with pytest.raises(RetryRefused, match="No matching failed recipients found for the provided IDs"):
        retry(failed, NOW, recipient_ids=recipient_ids)
    assert not Waiting.objects.exists()


def test_recipients_of_another_send_are_not_touched(api, failed):
    other = Recipient.objects.get(send_id=api.send())
    Waiting.objects.all().delete()
    Recipient.objects.filter(pk=other.pk).update(status="failed")
    with pytest.raises(RetryRefused):
        retry(failed, NOW, recipient_ids=[other.pk])
    assert Recipient.objects.get(pk=other.pk).status == "failed"


@pytest.mark.parametrize("status", ["accepted", "bounced", "suppressed", "complained", "cancelled"])
def test_only_failed_recipients_can_be_tried_again(failed, status):
    Recipient.objects.filter(send_id=failed.pk).update(status=status)
    with pytest.raises(RetryRefused, match="No failed recipients to retry"):
        retry(failed, NOW)


@pytest.mark.parametrize("seconds", [0, -1, -(2**62)])
def test_the_past_is_refused(failed, seconds):
    with pytest.raises(RetryRefused, match="You cannot schedule a retry in the past"):
        retry(failed, NOW, int(NOW.timestamp()) + seconds)


def test_more_than_thirty_days_ahead_is_refused(failed):
    with pytest.raises(RetryRefused, match="more than 30 days"):
        retry(failed, NOW, 2**62)


def test_what_waits_is_due_now_but_not_what_is_in_flight_or_held(
    api,
    woken,
    django_capture_on_commit_callbacks,
):
    later = NOW + timedelta(hours=4)
    send = Send.objects.get(pk=api.send(to=["a@x.test", "b@y.test", "c@z.test"]))
    waiting, flying, held = Waiting.objects.filter(send_id=send.pk).order_by("recipient_id")
    Waiting.objects.filter(send_id=send.pk).update(phase=Phase.LATER, due_at=later, tries=2)
    Waiting.objects.filter(pk=flying.pk).update(attempt_id=1, sender_id=1, lease_until=later)
    Waiting.objects.filter(pk=held.pk).update(phase=Phase.HELD, held_site_id=1)
    with django_capture_on_commit_callbacks(execute=True):
        assert retry(send, NOW, send_after=1, recipient_ids=[]) == 0  # other inputs are ignored
    rows = {w.pk: (w.phase, w.due_at, w.tries) for w in Waiting.objects.filter(send_id=send.pk)}
    assert rows == {
        waiting.pk: (Phase.DUE, NOW, 2),
        flying.pk: (Phase.LATER, later, 2),
        held.pk: (Phase.HELD, later, 2),
    }
    assert woken == [jobs.drain_queue(send.queue_id)]


def test_a_second_call_finds_them_waiting(failed):
    assert retry(failed, NOW) == 2
    assert retry(failed, NOW) == 0
    assert Waiting.objects.filter(send_id=failed.pk).count() == 2


# --- over the API --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}, {"send_after": None, "recipient_ids": None}])
def test_the_api_answers_with_the_send(api, failed, body):
    response = api.post(f"/sends/{failed.pk}/retry", body)
    assert response.status_code == 200, response.content
    assert response.json()["retried_recipients"] == 2
    assert response.json()["send"] == api.get(f"/sends/{failed.pk}").json()
    assert response.json()["send"]["queued"] is True


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"send_after": 1}, 400, "You cannot schedule a retry in the past"),
        ({"recipient_ids": [1]}, 400, "No matching failed recipients found for the provided IDs"),
        ({"send_after": "x"}, 422, "send_after: This value should be of type int."),
        ({"send_after": 1.5}, 422, "send_after: This value should be of type int."),
        ({"recipient_ids": 5}, 422, "recipient_ids: This value should be of type array."),
        ({"recipient_ids": [1, "x"]}, 422, "recipient_ids[1]: This value should be of type int."),
        ({"recipient_ids": [True]}, 422, "recipient_ids[0]: This value should be of type int."),
    ],
)
def test_the_api_refuses_with_the_contracts_texts(api, failed, body, status, message):
    response = api.post(f"/sends/{failed.pk}/retry", body)
    assert (response.status_code, response.json()["message"]) == (status, message)
    assert not Waiting.objects.exists()


def test_nothing_failed(api, failed):
    Recipient.objects.filter(send_id=failed.pk).update(status="accepted")
    response = api.post(f"/sends/{failed.pk}/retry", {})
    assert (response.status_code, response.json()["message"]) == (400, "No failed recipients to retry")
