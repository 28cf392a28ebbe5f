"""`manage.py queue`: orders from the machine, and sentences that name what is wrong."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import AuditEntry
from queues.models import Queue
from sending.backlog import orders
from sending.deliver.settle import settle
from sending.models import Operation, Waiting
from tests.sending.scene import LATER, Scene, answered

WHY = ("--reason", "test")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("queue", *arguments, stdout=out)
    return out.getvalue()


def test_the_list_shows_what_waits_where(scene: Scene) -> None:
    scene.send("ann@one.example")
    run("pause", "distributional", "--reason", "a bad campaign")
    lines = {line.split()[0]: line for line in run("list").splitlines()}
    assert lines["queue"].split() == ["queue", "due", "later", "held", "in", "flight", "oldest", "due", "state"]
    assert lines["transactional"].split()[1:5] == ["1", "0", "0", "0"]
    assert lines["distributional"].endswith("paused: a bad campaign")


def test_pause_and_resume_are_audited_with_the_machines_account(scene: Scene) -> None:
    assert run("pause", "transactional", *WHY) == "transactional is paused.\n"
    assert run("pause", "transactional", *WHY) == "transactional was already paused.\n"
    assert run("resume", "transactional") == "transactional is running.\n"
    labels = AuditEntry.objects.filter(action__startswith="queue.").values_list("actor_label", flat=True)
    assert len(labels) == 2
    assert all(label.startswith("command line") for label in labels)


def test_a_flush_is_counted_and_done(scene: Scene) -> None:
    scene.send("ann@one.example")
    settle([answered(scene.job(), LATER)], timezone.now())
    assert run("flush", "transactional", *WHY) == "transactional: 1 recipient waits.\n1 due now.\n"
    assert Waiting.objects.get().phase == 0


def test_a_dry_run_does_nothing(scene: Scene) -> None:
    scene.send("ann@one.example", "bob@two.example")
    scene.send("ida@two.example", project=scene.other_project())
    assert run("purge", "transactional", "--domain", "Two.example", "--dry-run", *WHY) == (
        "transactional: 2 recipients wait.\n"
    )
    assert run("purge", "transactional", "--project", "Other", "--dry-run", *WHY).startswith("transactional: 1 ")
    assert not Operation.objects.exists()


def test_a_reroute_names_the_queue_and_what_was_left(scene: Scene) -> None:
    scene.send("ann@one.example")
    scene.claim()
    scene.send("bob@one.example")
    told = run("reroute", "transactional", "--all", "--to", "distributional", *WHY)
    assert told.endswith("1 moved to distributional; left in flight: 1.\n")
    assert Waiting.objects.filter(queue_id=Queue.objects.get(name="distributional").pk).count() == 1


def test_a_purge_asks_unless_it_is_told_not_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.send("ann@one.example")
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was done"):
        run("purge", "transactional", "--all", *WHY)
    assert Waiting.objects.exists()
    monkeypatch.setattr("builtins.input", lambda _: "Yes")
    assert run("purge", "transactional", "--all", *WHY).endswith("1 cancelled.\n")
    scene.send("ann@one.example")
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked"))
    run("purge", "transactional", "--all", "--yes", *WHY)
    assert not Waiting.objects.exists()


def test_an_interrupt_takes_the_rest_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> bool:
        raise KeyboardInterrupt

    scene.send("ann@one.example")
    monkeypatch.setattr(orders, "run", interrupt)
    with pytest.raises(CommandError, match=r"Stopped; the rest is left as it was\. 0 cancelled"):
        run("purge", "transactional", "--all", "--yes", *WHY)
    assert Operation.objects.get().stopped_at
    assert Waiting.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resume", "bulk"], r"QUEUE: there is no queue 'bulk'. The queues: transactional, distributional."),
        (["pause", "transactional", "--reason", " "], "--reason: say why"),
        (["purge", "transactional", "--yes", *WHY], "Say what to purge: --project, --domain or --site, or --all"),
        (["purge", "transactional", "--all", "--domain", "x", *WHY], "--all goes with neither"),
        (["reroute", "transactional", "--all", "--to", "bulk", *WHY], "--to: there is no queue 'bulk'"),
        (["reroute", "transactional", "--all", "--to", "transactional", *WHY], "--to: The mail is in the queue"),
        (["flush", "transactional", "--reason", " "], "--reason: Say why"),
        (["flush", "transactional", "--project", "Nobody", *WHY], "--project: no project is named 'Nobody'"),
        (["purge", "transactional", "--yes", "--domain", "..x", *WHY], "--domain: '..x' is a label of the domain"),
        (["flush", "transactional", "--project", "999999", *WHY], "--project: no project is named '999999'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(scene: Scene, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        run(*arguments)
    assert str(refused.value).startswith(sentence)
    assert not Operation.objects.exists()
