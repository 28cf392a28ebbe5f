"""Noise for the parsers in small: the trial `parsers` of `make chaos` makes a million inputs."""

import random
import signal
import time
from collections.abc import Iterator

import pytest

from relay_project.chaos import reading
from relay_project.chaos.reading import input_of, read_share, spoilt
from relay_project.chaos.specimens import FILES, MESSAGES, PACKERS, with_file
from relay_project.mail.reports.model import ReportKind
from relay_project.mail.reports.parse import parse_report


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPROF)
    yield
    signal.signal(signal.SIGPROF, before)


def test_the_specimens_are_read_as_what_they_are() -> None:
    kinds = [parse_report(octets).kind.value for octets in MESSAGES]
    assert kinds == ["bounce", "bounce", "bounce", "auto-reply", "complaint"]
    (name, pack), *_ = PACKERS
    files = [parse_report(with_file(pack(octets), name)) for octets in FILES]
    assert [report.kind for report in files[:2]] == [ReportKind.TLS_REPORT, ReportKind.DMARC_REPORT]
    assert "XML is refused" in files[2].trouble, "entities"


def test_noise_raises_nothing_and_takes_little() -> None:
    result = read_share(600, 4)
    assert (result.raised, result.slow) == (0, 0)
    assert len(result.found) >= 5, "noise is made of mails that are still read as something"


def test_inputs_are_the_same_in_every_run() -> None:
    first, second = ([spoilt(rng) for _ in range(60)] for rng in (random.Random(1), random.Random(1)))
    assert first == second
    assert input_of(1, 7) == first[7]


def test_what_raises_or_never_ends_breaks_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(octets: bytes) -> None:
        raise ValueError

    def spins(octets: bytes) -> None:
        give_up = time.monotonic() + 5
        while time.monotonic() < give_up:
            pass

    monkeypatch.setattr(reading, "parse_report", fails)
    assert (read_share(3, 1).raised, read_share(3, 1).is_good) == (3, False)
    monkeypatch.setattr(reading, "parse_report", spins)
    monkeypatch.setattr(reading, "GIVE_UP_SECONDS", 0.05)
    monkeypatch.setattr(reading, "SLOW_SECONDS", 0.02)
    result = read_share(1, 1)
    assert (result.raised, result.slow, result.is_good) == (1, 1, False)
