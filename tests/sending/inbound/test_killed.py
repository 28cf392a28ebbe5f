"""kill -9 of run_webhooks in the middle of a batch of reports: nothing is lost, and nothing is done twice."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from projects.models import Event
from relay_project.mail.reports.model import Report
from sending.inbound import apply as applying
from sending.inbound import read as reading
from sending.inbound.read import LEASE, Reader
from sending.models import Feedback, InboundMail, Suppression, UnreadMail
from tests.sending.inbound.reports import bounce, came, delivered, token
from tests.sending.scene import Scene


def killed(work: Callable[[], object]) -> None:
    """Run it in a process of its own, which must not live to see its end."""
    child = os.fork()
    if child == 0:
        # the parent's connection is neither used nor closed here
        inherited, connection.connection = connection.connection, None
        try:
            work()
        finally:
            os._exit(0 if inherited is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("step", ["emit_many", "mark"])
def test_a_reader_that_is_killed_in_its_transaction_leaves_the_batch_to_the_next(
    open_scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    addresses = [f"r{number}@one.example" for number in range(3)]
    said: dict[bytes, Report] = {}
    sends = []
    for address in addresses:
        accepted, job = delivered(open_scene, address)
        sends.append(accepted)
        said[address.encode()] = bounce(address)
        came(token(job), octets=address.encode())
    monkeypatch.setattr(reading, "parse_report", said.__getitem__)
    real = getattr(applying, step)

    def die(*given: Any) -> None:
        real(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(applying, step, die)
        killed(lambda: Reader().look())
    assert not Feedback.objects.exists()
    assert set(InboundMail.objects.values_list("state", flat=True)) == {"waiting"}
    assert Reader().look() == 0, "the lease of the dead one holds"

    UnreadMail.objects.update(due_at=timezone.now() - LEASE)
    reader = Reader()
    while reader.look():
        pass
    assert [open_scene.statuses(one) for one in sends] == [["bounced"]] * 3
    assert Feedback.objects.count() == Suppression.objects.count() == 3
    assert Event.objects.filter(kind="send.recipient.bounced").count() == 3
    assert set(InboundMail.objects.values_list("state", flat=True)) == {"applied"}
    assert not UnreadMail.objects.exists()
