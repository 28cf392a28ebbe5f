"""What outcomes mean beyond their mail: suppressions hard and soft, and incidents."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ips.incidents import close
from ips.models import Incident
from projects.models import Event, Project
from relay_project.mail.classify import classify
from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from sending import soft_bounces
from sending.deliver.giveback import promote
from sending.deliver.load import Job
from sending.deliver.outcome import AttemptOutcome, RecipientOutcome
from sending.deliver.settle import settle
from sending.models import AttemptRecipient, SoftBounce, Suppression
from sending.retention import delete_soft_bounces
from sending.suppress import standing_among
from tests.sending.scene import LATER, MISSING, OK, Scene, answered

FULL = Reply(552, "5.2.2", "mailbox full")
BLOCKED = Reply(554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org")
SPAM = Reply(554, "5.7.1", "this looks like spam")
TOO_FAST = Reply(421, "4.7.0", "too many connections")
DAY = timedelta(days=1)
ANN = "ann@one.example"


def mail(scene: Scene, reply: Reply | None, now: datetime, *addresses: str) -> None:
    """One mail, and what its only attempt brings."""
    scene.send(*(addresses or (ANN,)))
    job = scene.job()
    settle([answered(job, *[reply] * len(job.targets), site="one")], now)


def ended(job: Job, stage: Stage, reply: Reply | None, failure: NetworkFailure | None = None) -> AttemptOutcome:
    """One reply or failure for all recipients, at any step."""
    verdict = classify(stage, reply, failure, len(job.targets))
    return AttemptOutcome(job, tuple(RecipientOutcome(target, verdict, reply, failure) for target in job.targets))


@contextmanager
def statements() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as queries:
        yield queries


def of_tables(queries: CaptureQueriesContext, *names: str) -> list[str]:
    return [one["sql"] for one in queries.captured_queries if any(name in one["sql"] for name in names)]


def test_a_full_mailbox_suppresses_after_five_days_of_it(scene: Scene) -> None:
    now = timezone.now()
    for ago in (24, 18, 12, 6):
        mail(scene, FULL, now - ago * DAY)
    assert not Suppression.objects.exists()
    mail(scene, FULL, now)
    [row] = Suppression.objects.all()
    assert (row.email, row.reason) == (ANN, "bounce")
    assert row.description == "Undeliverable on 5 days within 30: 552 5.2.2 mailbox full"
    assert not SoftBounce.objects.exists(), "whoever lifts the suppression begins anew"
    assert AttemptRecipient.objects.order_by("-id")[0].is_suppressed
    assert AttemptRecipient.objects.filter(is_suppressed=True).count() == 1
    assert Event.objects.filter(kind="suppression.created").count() == 1


def test_many_mails_of_one_day_are_one_soft_bounce(scene: Scene) -> None:
    noon = datetime(2026, 5, 4, 12, tzinfo=UTC)
    for hour in range(8):
        mail(scene, FULL, noon + timedelta(hours=hour))
    assert SoftBounce.objects.get().days == [noon.date()]
    assert not Suppression.objects.exists()


def test_days_outside_the_window_do_not_count(scene: Scene) -> None:
    now = timezone.now()
    for ago in (70, 60, 50, 40, 31, 30, 2, 1, 0):
        mail(scene, FULL, now - ago * DAY)
    assert len(SoftBounce.objects.get().days) == 3
    assert not Suppression.objects.exists()


def test_an_accepted_mail_takes_the_count_back(scene: Scene) -> None:
    now = timezone.now()
    for ago in (9, 8, 7, 6):
        mail(scene, FULL, now - ago * DAY)
    mail(scene, OK, now - 5 * DAY, "Ann@One.example")
    assert not SoftBounce.objects.exists(), "addresses are compared in their normal form (lesson C8)"
    mail(scene, FULL, now)
    assert not Suppression.objects.exists()


def test_mail_that_is_deferred_until_it_fails_counts_as_one(scene: Scene, settings) -> None:  # type: ignore[no-untyped-def]
    accepted = scene.send(ANN)
    now = timezone.now()
    settle([answered(scene.job(now), LATER)], now)
    assert not SoftBounce.objects.exists(), "not as long as another try follows"
    for _ in range(settings.RETRY_SCHEDULE.max_tries - 1):
        [row] = scene.waiting(accepted)
        now = row.due_at
        promote(now)
        settle([answered(scene.job(now), LATER)], now)
    assert scene.statuses(accepted) == ["failed"]
    assert SoftBounce.objects.get().days == [now.astimezone(UTC).date()]


@pytest.mark.parametrize("reply", [BLOCKED, SPAM, Reply(550, "5.7.26", "unauthenticated"), MISSING, OK, TOO_FAST])
def test_what_is_no_soft_bounce_is_not_counted(scene: Scene, reply: Reply) -> None:
    """Infrastructure and content never suppress; a missing mailbox does at once."""
    mail(scene, reply, timezone.now())
    assert not SoftBounce.objects.exists()


def test_one_reply_for_several_recipients_is_nobodys_soft_bounce(scene: Scene) -> None:
    scene.send("ann@one.example", "bob@one.example")
    job = scene.job()
    settle([ended(job, Stage.DATA_CLOSE, Reply(552, "5.2.2", "one of them is full"))], timezone.now())
    assert not SoftBounce.objects.exists()


def test_with_a_limit_of_nought_nothing_is_counted(scene: Scene, settings) -> None:  # type: ignore[no-untyped-def]
    settings.SOFT_BOUNCE_LIMIT = 0
    mail(scene, FULL, timezone.now())
    assert not SoftBounce.objects.exists()


def test_plain_mail_costs_no_statement(scene: Scene) -> None:
    """Room for speed: only a mail whose address has a count takes one back, by one statement for the batch."""
    scene.send(ANN)
    job = scene.job()
    with statements() as queries:
        settle([answered(job, OK)], timezone.now())
    assert of_tables(queries, "softbounce", "suppression", "incident") == []
    mail(scene, FULL, timezone.now())
    scene.send(ANN)
    job = scene.job()
    with statements() as queries:
        settle([answered(job, OK)], timezone.now())
    assert len(of_tables(queries, "softbounce", "suppression", "incident")) == 1


def test_asking_for_the_standing_of_a_batch_starts_no_workers(scene: Scene) -> None:
    """With literal arrays the planner made a parallel plan of it: 20 ms a batch instead of 0.1."""
    addresses = [f"person{number}@one.example" for number in range(200)]
    with connection.cursor() as cursor:
        for table, more in (("sending_softbounce", "days"), ("sending_suppression", "reason")):
            value = "ARRAY[current_date]" if more == "days" else "'bounce'"
            cursor.execute(
                f"INSERT INTO {table} (project_id, email, {more}) "
                f"SELECT %s, 'u' || g || '@b.example', {value} FROM generate_series(1, 20000) g",
                [scene.project.pk],
            )
            cursor.execute(f"ANALYZE {table}")
        with statements() as queries, connection.cursor() as watched:
            standing_among(watched, scene.project.pk, addresses)
        cursor.execute("EXPLAIN " + queries.captured_queries[0]["sql"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Gather" not in plan
    assert "Seq Scan" not in plan
    assert plan.count("Index Scan using suppression_") == 2, plan
    assert plan.count("Index Only Scan using soft_bounce_") == 1, plan


def test_counts_of_one_project_are_not_anothers(scene: Scene) -> None:
    mail(scene, FULL, timezone.now())
    other = scene.other_project()
    scene.send(ANN, project=other)
    settle([answered(scene.job(), OK)], timezone.now())
    assert SoftBounce.objects.get().project_id == scene.project.pk


def test_old_counts_are_forgotten(scene: Scene) -> None:
    now = timezone.now()
    mail(scene, FULL, now - 40 * DAY, "ann@one.example")
    mail(scene, FULL, now, "bob@one.example")
    assert delete_soft_bounces(now) == 1
    assert SoftBounce.objects.get().email == "bob@one.example"


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=25))
def test_the_count_is_that_of_the_distinct_days_since_the_last_acceptance(
    scene: Scene, mails: list[tuple[int, bool]]
) -> None:
    """Whatever the order: days in the window, each once, and nothing from before an accepted mail."""
    SoftBounce.objects.all().delete()
    epoch = datetime(2026, 1, 1, 12, tzinfo=UTC)
    key = soft_bounces.key_of(scene.project.pk, ANN)
    expected: set[int] = set()
    with connection.cursor() as cursor:
        for day, is_accepted in sorted(mails, key=lambda mail: mail[0]):
            if is_accepted:
                soft_bounces.take_back(cursor, [key])
                expected = set()
                continue
            reached = soft_bounces.count(cursor, [key], epoch + day * DAY)
            expected = {one for one in expected if one > day - 30} | {day}
            assert bool(reached) is (len(expected) >= 5)
            if reached:
                expected = set()
    stored = SoftBounce.objects.filter(email=ANN).values_list("days", flat=True).first() or []
    assert {(day - epoch.date()).days for day in stored} == expected


# --- Incidents -----------------------------------------------------------------------------------------------------


def test_a_refusal_of_our_address_opens_an_incident_and_suppresses_nobody(scene: Scene) -> None:
    now = timezone.now()
    mail(scene, BLOCKED, now)
    [incident] = Incident.objects.all()
    assert (incident.source_ip_id, incident.site, incident.cause) == (scene.ip.id, "one", "ip-reputation")
    assert (incident.rule, incident.attempt_count, incident.opened_at) == ("guard-blocklist", 1, now)
    assert incident.last_reply == str(BLOCKED)
    assert incident.last_project_id == scene.project.pk
    assert not Suppression.objects.exists()
    [event] = Event.objects.filter(kind="incident.opened")
    assert Project.objects.get(pk=event.project_id).is_system, "it is the operator's, not a tenant's"
    assert (event.subject_kind, event.subject_id) == ("incident", incident.pk)


def test_what_the_simulator_was_asked_to_say_alarms_nobody(scene: Scene, settings) -> None:  # type: ignore[no-untyped-def]
    mail(scene, BLOCKED, timezone.now(), f"blocklisted@{settings.SIMULATOR_DOMAIN}")
    assert not Incident.objects.exists()
    mail(scene, BLOCKED, timezone.now(), "ann@one.example")
    assert Incident.objects.exists()


def test_what_is_seen_again_is_counted_on_the_open_incident(scene: Scene) -> None:
    now = timezone.now()
    mail(scene, BLOCKED, now - DAY)
    scene.send("ann@one.example")
    scene.send("bob@one.example", "carol@one.example")
    jobs = scene.jobs()
    settle([answered(job, *[BLOCKED] * len(job.targets), site="one") for job in jobs], now)
    [incident] = Incident.objects.all()
    assert incident.attempt_count == 3, "attempts, not recipients"
    assert (incident.opened_at, incident.last_seen_at) == (now - DAY, now)
    assert Event.objects.filter(kind="incident.opened").count() == 1


def test_each_cause_and_site_has_an_incident_of_its_own_and_a_closed_one_stays_closed(scene: Scene) -> None:
    now = timezone.now()
    mail(scene, BLOCKED, now)
    mail(scene, TOO_FAST, now, "bob@one.example")
    assert sorted(Incident.objects.values_list("cause", flat=True)) == ["ip-reputation", "rate"]
    incident = Incident.objects.get(cause="ip-reputation")
    assert close(incident, "delisted", now, actor=None)
    assert not close(incident, "again", now, actor=None)
    mail(scene, BLOCKED, now + DAY, "carol@one.example")
    assert Incident.objects.filter(cause="ip-reputation").count() == 2
    assert Event.objects.filter(kind="incident.closed").count() == 1


@pytest.mark.parametrize("reply", [OK, LATER, MISSING, FULL, SPAM])
def test_what_is_not_about_us_opens_none(scene: Scene, reply: Reply) -> None:
    mail(scene, reply, timezone.now())
    assert not Incident.objects.exists()


def test_settling_again_counts_nothing_twice(scene: Scene) -> None:
    """A commit whose answer got lost is repeated."""
    scene.send("ann@one.example")
    scene.send("bob@one.example")
    outcomes = [answered(job, reply, site="one") for job, reply in zip(scene.jobs(), (BLOCKED, FULL), strict=True)]
    for _ in range(2):
        settle(outcomes, timezone.now())
    assert Incident.objects.get().attempt_count == 1
    assert len(SoftBounce.objects.get().days) == 1


def test_a_hostile_reply_is_stored_on_the_incident_without_harm(scene: Scene) -> None:
    """Lesson C3: NUL and lone surrogates."""
    mail(scene, Reply(554, "5.7.1", "your ip is blacklisted \0\ud800 <script>" + "x" * 5000), timezone.now())
    assert len(Incident.objects.get().last_reply) == 2000


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (None, NetworkFailure(FailureKind.TLS, "certificate has expired")),
        (Reply(502, "5.5.1", "Not implemented"), None),
    ],
)
def test_a_demand_of_tls_that_is_not_met_is_no_incident_of_our_source_ip(
    scene: Scene, reply: Reply | None, failure: NetworkFailure | None
) -> None:
    scene.send(ANN)
    settle([ended(scene.job(), Stage.STARTTLS, reply, failure)], timezone.now())
    assert not Incident.objects.exists()


def test_an_error_in_what_was_said_is_an_incident_of_protocol(scene: Scene) -> None:
    scene.send(ANN)
    settle([ended(scene.job(), Stage.MAIL, None, NetworkFailure(FailureKind.PROTOCOL, "no SMTP"))], timezone.now())
    incident = Incident.objects.get()
    assert (incident.cause, incident.rule, incident.last_reply) == ("protocol", "network-protocol", "no SMTP")
