"""Each kind of run once, tiny: that it runs to its end, says what it should, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from relay_project.bench.kept import HISTORY, KeptFolder
from relay_project.bench.letters import batches, letter
from relay_project.bench.outgoing import wanted
from relay_project.bench.plan import BenchError, Plan, Traffic, make_plan
from relay_project.bench.receiver import Arrivals
from relay_project.bench.scenarios import COMPARISONS, SCENARIOS, plan_of, plans_of
from relay_project.bench.sets import SETS
from tests import database

ROOT = Path(__file__).parents[2]
MANAGE = ROOT / "manage.py"
KEYS = {
    *("name", "rate", "percentiles", "body_bytes", "signatures", "processes", "fsync", "sink_cpu_us", "cores"),
    *("versions", "messages", "duplicates", "missing", "rsa_2048_per_second", "synchronous_commit", "measured_at"),
    *("title", "goals"),
}


def bench(*arguments: str, database_url: str | None = None) -> subprocess.CompletedProcess[str]:
    of_the_tests = ("DATABASE_URL", "APP_SECRET", "DJANGO_SETTINGS_MODULE")
    environment = {name: value for name, value in os.environ.items() if name not in of_the_tests}
    environment |= {"RELAY_ENV_FILE": os.devnull, "RELAY_HOME": "/nonexistent"}
    if database_url:
        environment["DATABASE_URL"] = database_url
    return subprocess.run(
        [sys.executable, str(MANAGE), "bench", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def result_of(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr[-2000:]
    result = json.loads(run.stdout.splitlines()[-1])
    assert result.keys() >= KEYS
    assert result["versions"].keys() >= {"python", "postgresql", "relay", "django", "psycopg"}
    assert result["missing"] == 0
    assert result["rate"] > 0
    points = result["percentiles"]
    assert 0 < points["p50"] <= points["p90"] <= points["p95"] <= points["p99"] <= points["max"]
    assert all(goal["met"] == ((goal["value"] <= goal["bound"]) == goal["at_most"]) for goal in result["goals"])
    return dict(result)


@pytest.fixture
def server() -> str:
    """The test run's own server: faster, and its databases can be counted."""
    database.ensure_running()
    return os.environ["DATABASE_URL"]


def bench_databases(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'relay_bench_%'").fetchall()
    return [row[0] for row in rows]


@pytest.mark.journey
def test_drain_makes_its_own_durable_database_and_delivers_each_mail_once() -> None:
    run = bench("drain", "--json", "--messages", "200", "--starttls", "--sites", "3")
    result = result_of(run)
    assert run.stdout.count("\n") == 1
    assert (result["name"], result["messages"], result["duplicates"]) == ("drain", 200, 0)
    assert result["fsync"] is True
    assert result["synchronous_commit"] == "on"
    assert result["signatures"] == result["processes"] == 2
    assert result["sink_cpu_us"] > 0
    assert result["dkim_signatures_seen"] == 2
    assert (result["starttls"], result["sites"]) == (True, 3)
    assert result["sender_peak_mib"] > 10
    assert result["database"] == "a PostgreSQL of its own"


@pytest.mark.journey
def test_end_to_end_knows_each_mails_way_from_accept_to_arrival(server: str) -> None:
    options = ("--messages", "200", "--pace", "200", "--batch", "20", "--signatures", "1")
    result = result_of(bench("end_to_end", "--json", *options, database_url=server))
    assert (result["messages"], result["pace"], result["signatures"], result["duplicates"]) == (200, 200, 1, 0)
    assert result["percentiles"]["unit"] == "ms"
    assert bench_databases(server) == []


@pytest.mark.journey
def test_latency_is_that_of_the_messages_and_not_of_the_backlog_beside_them(server: str) -> None:
    options = ("--messages", "10", "--pace", "50", "--backlog", "300", "--bounce", "0")
    result = result_of(bench("latency", "--json", *options, database_url=server))
    assert (result["messages"], result["backlog"], result["duplicates"]) == (10, 300, 0)
    assert result["backlog_left"] <= 310
    assert bench_databases(server) == []


@pytest.mark.journey
def test_accept_counts_requests_that_are_in_the_database(server: str) -> None:
    result = result_of(bench("accept", "--json", "--seconds", "1", "--connections", "2", database_url=server))
    assert result["messages"] >= result["rate"] > 0
    assert (result["connections"], result["duplicates"]) == (2, 0)
    assert bench_databases(server) == []


@pytest.mark.journey
def test_submission_counts_mails_that_are_in_the_database(server: str) -> None:
    options = ("--seconds", "1", "--connections", "2", "--slow-peers", "4", "--reconnect")
    result = result_of(bench("submission", "--json", *options, database_url=server))
    assert (result["connections"], result["reconnect"], result["slow_peers"]) == (2, True, 4)
    assert (result["duplicates"], result["body_bytes"]) == (0, 5000)
    assert bench_databases(server) == []


def test_a_database_that_does_not_answer_is_one_sentence() -> None:
    run = bench("drain", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    assert run.returncode == 1
    assert run.stderr.startswith("CommandError: DATABASE_URL does not serve for a benchmark:")
    assert "Traceback" not in run.stderr


def test_a_load_that_would_leave_this_machine_is_refused() -> None:
    with pytest.raises(CommandError, match="only loopback addresses"):
        call_command("bench", "drain", "--source-ips", "127.0.0.2,192.0.2.1")


def test_list_names_scenarios_with_their_options_comparisons_and_sets(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("bench", "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [*SCENARIOS, *COMPARISONS, *SETS]
    assert sum("--tarpit-seconds" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("accept", "--recipients", "3"), "accept does not read --recipients"),
        (("quick", "--messages", "3"), "The set quick has plans of its own"),
        (("drain", "--history", "4000"), "The history has a server of its own"),
        (("drain", "--cores", "1000"), "cores for us, not 1000"),
        (("drain", "--defer", "2"), "not a share from 0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(CommandError, match=sentence):
        call_command("bench", *arguments)


def test_a_history_is_made_again_for_other_tables_and_only_where_there_is_room(tmp_path: Path) -> None:
    migration = tmp_path / "code" / "sending" / "migrations" / "0001_initial.py"
    migration.parent.mkdir(parents=True)
    migration.write_text("first")
    folder = KeptFolder(HISTORY, tmp_path / "kept", 4000, tmp_path / "code")
    with folder.locked():
        folder.begin()
        with pytest.raises(BenchError, match="Another benchmark uses"), folder.locked():
            pass
    assert not folder.is_made
    folder.finish()
    assert KeptFolder(HISTORY, tmp_path / "kept", 4000, tmp_path / "code").is_made
    migration.write_text("changed")
    assert not KeptFolder(HISTORY, tmp_path / "kept", 4000, tmp_path / "code").is_made
    with pytest.raises(BenchError, match=r"needs 1,500,006\.4 GB of disk"):
        KeptFolder(HISTORY, tmp_path / "kept", 10**12, tmp_path / "code").begin()
    assert not folder.is_made  # what was of another size has gone


def test_each_message_has_content_of_its_own_and_the_size_asked_for() -> None:
    letters = [letter(number, 2048) for number in range(50)]
    assert len({one.body_text for one in letters}) == len({one.body_html for one in letters}) == 50
    for one in letters:
        assert abs(len(one.body_text or "") + len(one.body_html or "") - 2048) < 64
    assert letter(7, 2048) == letters[7]


def test_recipients_of_a_message_share_a_domain_and_have_numbers_of_their_own() -> None:
    traffic = Traffic(messages=6, recipients=3, domains=4, projects=2, html_share=0.5, attachment_share=0.5)
    everything = [(project, one) for project, batch in batches(traffic, 2) for one in batch]
    assert [project for project, _ in everything] == [0, 0, 1, 1, 0, 0]
    addresses = [recipient.address for _, one in everything for recipient in one.recipients]
    assert addresses[:4] == ["someone-0@r0.test", "someone-1@r0.test", "someone-2@r0.test", "someone-3@r1.test"]
    assert len(set(addresses)) == traffic.mails == 18
    assert (
        sum(one.body_html is None for _, one in everything) == sum(bool(one.attachments) for _, one in everything) == 3
    )
    assert everything[2][1].from_.address == "news@sender1.test"


def test_mailboxes_that_bounce_are_known_beforehand() -> None:
    kind = make_plan("drain", messages=1000)
    assert wanted(kind) == 1000
    assert 850 < wanted(make_plan("drain", messages=1000, bounce=0.1)) < 950


def test_arrivals_tell_missing_and_doubled_mail() -> None:
    arrivals = Arrivals(array("d", [1.0, 1.5, 2.25, 4.0]), array("q", [0, 2, 2, -1]), cpu_us=1.0)
    assert arrivals.missing(4) == 2
    assert arrivals.duplicates == 1
    assert arrivals.first_time()[2] == 1.5
    assert arrivals.by_second() == [2, 1, 0, 1]

    assert list(arrivals.of(range(1, 3)).numbers) == [2, 2]
    assert list(arrivals.first(2).times) == [1.0, 1.5]


def test_every_plan_of_the_sets_survives_its_way_to_the_run() -> None:
    for entries in SETS.values():
        for entry in entries.values():
            plans = (
                plans_of(entry.name, entry.options)
                if entry.name in COMPARISONS
                else [plan_of(entry.name, entry.options)]
            )
            for plan in plans:
                assert Plan.of(json.loads(json.dumps(plan.as_record()))) == plan


def test_the_two_sides_of_a_comparison_differ_in_what_it_is_about() -> None:
    clear, secured = plans_of("starttls", {"messages": 10})
    assert (clear.remote.starttls, secured.remote.starttls) == (False, True)
    assert clear == replace(secured, remote=replace(secured.remote, starttls=False))
    empty, full = plans_of("history", {})
    assert (empty.history, full.history, full.waiting) == (0, 10_000_000, 1_000_000)
    postfix, ours = plans_of("peers", {})
    assert (postfix.scenario, ours.scenario, ours.signatures) == ("postfix", "end_to_end", 1)
