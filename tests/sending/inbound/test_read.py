"""The reader: once, whoever dies; what stumbles stands alone; and nobody's absence costs a mail its tries."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, OperationalError
from django.utils import timezone

from relay_project.mail.reports.model import Report, ReportKind
from sending import health
from sending.inbound import read as reading
from sending.inbound.correlate import Read
from sending.inbound.read import BATCH, LEASE, MAX_TRIES, Reader, measure, take
from sending.models import Feedback, InboundMail, Suppression, UnreadMail
from tests.sending.inbound.reports import bounce, came, delivered, token
from tests.sending.scene import Scene, nodes, plans

ANN = "ann@one.example"


@pytest.fixture(autouse=True)
def parsed(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Report | Exception]:
    """What the parser makes of a mail, by its bytes."""
    known: dict[bytes, Report | Exception] = {}

    def parse(octets: bytes) -> Report:
        found = known.get(octets, Report(ReportKind.NONE))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(reading, "parse_report", parse)
    return known


@contextmanager
def stumbling(monkeypatch: pytest.MonkeyPatch, over: int, error: Exception) -> Iterator[list[int]]:
    """apply() fails on whatever batch has that mail; the sizes of the batches it was given."""
    sizes: list[int] = []
    real = reading.apply

    def apply(reads: list[Read], now: Any) -> Any:
        sizes.append(len(reads))
        if any(read.mail.mail_id == over for read in reads):
            raise error
        return real(reads, now)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "apply", apply)
        yield sizes


def states() -> list[str]:
    return list(InboundMail.objects.order_by("id").values_list("state", flat=True))


def test_what_came_in_is_read_in_batches(scene: Scene, parsed: dict[bytes, Any]) -> None:
    accepted, job = delivered(scene, ANN)
    parsed[b"report"] = bounce(ANN)
    came(token(job), octets=b"report")
    for _ in range(4):
        came("postmaster@relay.test")
    reader = Reader(batch=3)
    assert (reader.look(), reader.has_more) == (3, True)
    assert (reader.look(), reader.has_more) == (2, False)
    assert (reader.look(), measure(timezone.now())) == (0, (0, 0.0))
    assert scene.statuses(accepted) == ["bounced"]
    assert states() == ["applied", "noted", "noted", "noted", "noted"]


def test_a_mail_that_is_being_read_is_nobody_elses_until_its_lease_ends(scene: Scene) -> None:
    came("postmaster@relay.test")
    now = timezone.now()
    assert list(take(BATCH, now)[0].values()) == [1]
    assert take(BATCH, now + LEASE / 2) == ({}, False)
    assert list(take(BATCH, now + LEASE)[0].values()) == [2]


def test_a_reader_that_comes_late_changes_nothing(scene: Scene, parsed: dict[bytes, Any]) -> None:
    """Its lease ran out, and another reader has the mail by now."""
    _, job = delivered(scene, ANN)
    parsed[b"report"] = bounce(ANN)
    came(token(job), octets=b"report")
    now = timezone.now()
    mails = reading._mails(take(BATCH, now)[0])
    take(BATCH, now + LEASE)
    assert reading.apply([Read(mail, bounce(ANN)) for mail in mails], now) == []
    assert not Feedback.objects.exists()
    assert states() == ["waiting"]


def test_what_somebody_died_with_is_taken_alone_and_at_last_set_aside(scene: Scene) -> None:
    first, second = came("postmaster@relay.test"), came("postmaster@relay.test")
    now = timezone.now()
    for tries in range(1, MAX_TRIES + 1):  # each time the process dies before it is done
        chosen, _ = take(BATCH, now)
        assert chosen[min(chosen)] == tries
        now += LEASE + timedelta(seconds=1)
        UnreadMail.objects.filter(mail_id=second).update(tries=0, due_at=now)
    UnreadMail.objects.filter(mail_id=second).delete()
    UnreadMail.objects.update(due_at=timezone.now())
    third = came("postmaster@relay.test")
    reader = Reader()
    assert (reader.look(), reader.has_more) == (1, True)
    mail = InboundMail.objects.get(pk=first)
    assert (mail.state, mail.trouble) == ("trouble", "Set aside: a reader died with it 3 times")
    reader.look()
    assert InboundMail.objects.get(pk=third).state == "noted"
    found = health.inbound()
    assert (found.passed, found.data["set_aside"]) == (False, 1)


def test_a_mail_that_cannot_be_applied_is_isolated_and_keeps_its_bytes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = [came("postmaster@relay.test", octets=bytes([number])) for number in range(8)]
    with stumbling(monkeypatch, mails[5], DataError("that cannot be stored")) as sizes:
        assert Reader().look() == 8
    assert sizes == [8, 4, 4, 2, 1, 1, 2]
    poison = InboundMail.objects.get(pk=mails[5])
    assert (poison.state, poison.trouble) == ("trouble", "Set aside: DataError: that cannot be stored")
    assert bytes(poison.octets) == b"\x05"
    assert states().count("noted") == 7
    assert not UnreadMail.objects.exists()


def test_a_parser_that_raises_costs_its_mail_alone(scene: Scene, parsed: dict[bytes, Any]) -> None:
    parsed[b"odd"] = RecursionError("too deep")
    came("postmaster@relay.test", octets=b"odd")
    came("postmaster@relay.test")
    Reader().look()
    assert states() == ["trouble", "noted"]
    assert InboundMail.objects.order_by("id")[0].trouble == "Set aside: the parser raised RecursionError: too deep"


def test_a_database_that_goes_away_takes_no_try_from_a_mail(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = came("postmaster@relay.test")
    reader = Reader()
    for _ in range(2 * MAX_TRIES):
        with stumbling(monkeypatch, mail, OperationalError("gone")), pytest.raises(OperationalError):
            reader.look()
    assert UnreadMail.objects.get().tries == 1
    assert reader.look() == 1
    assert states() == ["noted"]


def test_a_report_that_cannot_be_parsed_is_there_for_staff_with_the_reason(
    scene: Scene, parsed: dict[bytes, Any]
) -> None:
    parsed[b"broken"] = Report(ReportKind.NONE, trouble="the boundary is missing")
    came("fbl@relay.test", octets=b"broken")
    Reader().look()
    mail = InboundMail.objects.get()
    assert (mail.state, mail.trouble, bytes(mail.octets)) == ("trouble", "the boundary is missing", b"broken")


def test_a_mail_that_retention_took_is_forgotten(scene: Scene) -> None:
    came("postmaster@relay.test")
    InboundMail.objects.all().delete()
    assert Reader().look() == 1
    assert not UnreadMail.objects.exists()


def test_every_statement_of_the_reader_names_its_days(scene: Scene, parsed: dict[bytes, Any]) -> None:
    """Lesson P1, P3: no statement on what happened without a range of ids."""
    _, job = delivered(scene, ANN)
    parsed[b"report"] = bounce(ANN)
    came(token(job), octets=b"report")
    found = plans(lambda: Reader().look())
    days = {
        node["Relation Name"]
        for sql, plan in found
        for node in nodes(plan)
        if "_p20" in node.get("Relation Name", "") and "ModifyTable" not in node["Node Type"]
    }
    for table in {name.rpartition("_p")[0] for name in days}:
        assert len({name for name in days if name.startswith(f"{table}_p")}) <= 3, sorted(days)
    assert days
    assert Suppression.objects.exists()
