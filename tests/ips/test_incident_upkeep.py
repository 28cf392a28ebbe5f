"""What incidents quote, when they end by themselves, and when they pause a site."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry
from ips import sites
from ips.incident_upkeep import close_stopped, pause_pairs
from ips.incidents import MAX_REPLIES, Sighting, sight
from ips.models import Incident, Server, SiteLimit, SourceIp
from ips.remedies import remedies
from projects.models import Event, Project
from relay_project.mail.classify import Cause

HOUR = timedelta(hours=1)
LISTED = "554 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org, id {}"


def seen(
    host: Server, reply: str, attempts: int = 1, now: datetime | None = None, site: str = "example.net"
) -> Incident:
    address = SourceIp.objects.filter(server=host)[0]
    with connection.cursor() as cursor:
        sighting = Sighting(address.pk, site, Cause.IP_REPUTATION, "guard-blocklist", attempts, reply, 1, 2)
        sight(cursor, [sighting], now or timezone.now())
    return Incident.objects.get(site=site, closed_at=None)


def test_replies_that_differ_only_in_their_numbers_are_one_quote_with_a_count(host: Server) -> None:
    seen(host, LISTED.format("A1B2C3D4"))
    seen(host, "554 5.7.1 Go away")
    incident = seen(host, LISTED.format("0099FFEE"), attempts=4)
    assert [(quote["text"], quote["count"]) for quote in incident.replies] == [
        (LISTED.format("0099FFEE"), 5),
        ("554 5.7.1 Go away", 1),
    ]
    assert incident.attempt_count == 6


def test_an_incident_keeps_a_few_quotes_cut_to_size(host: Server) -> None:
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for word in words:
        incident = seen(host, f"550 {word} " + "x" * 1900)
    assert [quote["text"].split()[1] for quote in incident.replies] == list(words[::-1][:MAX_REPLIES])
    assert {len(quote["text"]) for quote in incident.replies} == {500}


def test_what_was_not_seen_for_the_settings_hours_is_closed_with_a_note_and_an_event(
    host: Server, settings: Any
) -> None:
    settings.INCIDENT_CLOSE_HOURS = 48
    system = Project.objects.create(name="System", send_type="transactional", is_system=True)
    now = timezone.now()
    old, fresh = seen(host, "554 no", now=now - 49 * HOUR), seen(host, "554 no", now=now, site="other.net")
    assert close_stopped(now) == 1
    old.refresh_from_db()
    fresh.refresh_from_db()
    assert (old.closed_at, old.note, fresh.closed_at) == (now, "Not seen for 48 hours.", None)
    [event] = Event.objects.filter(kind="incident.closed")
    assert (event.project_id, event.subject_id) == (system.pk, old.pk)
    assert AuditEntry.objects.get(action="incident.closed").actor_label == "Relay"
    assert close_stopped(now) == 0


def test_a_paused_pair_shows_nothing_so_its_incident_stays_open(host: Server) -> None:
    now = timezone.now()
    incident = seen(host, "554 no", now=now - 1000 * HOUR)
    sites.pause_site(incident.site, reason="we look into it", actor=None, now=now)
    assert close_stopped(now) == 0
    sites.resume_site(incident.site, actor=None, now=now)
    assert close_stopped(now) == 1


def test_zero_hours_leave_closing_to_staff(host: Server, settings: Any) -> None:
    settings.INCIDENT_CLOSE_HOURS = 0
    seen(host, "554 no", now=timezone.now() - 9999 * HOUR)
    assert close_stopped(timezone.now()) == 0


def test_many_refusals_in_short_time_pause_the_site_for_that_address_alone(host: Server, settings: Any) -> None:
    settings.INCIDENT_PAUSE_LIMIT, now = 50, timezone.now()
    seen(host, "554 no", attempts=49, now=now)
    assert pause_pairs(now) == 0
    incident = seen(host, "554 no", attempts=1, now=now)
    assert pause_pairs(now) == 1
    row = SiteLimit.objects.get(site="example.net")
    assert (row.source_ip_id, row.paused_at) == (incident.source_ip_id, now)
    assert row.pause_reason == (
        f"Paused by Relay: 50 attempts met incident {incident.pk} (IP reputation) within 10 minutes."
    )
    assert AuditEntry.objects.get(action="site.paused").actor_label == "Relay"
    incident.refresh_from_db()
    assert (incident.paused_at, incident.window_count) == (now, 0)


def test_after_staff_resume_as_many_refusals_are_needed_again(host: Server, settings: Any) -> None:
    settings.INCIDENT_PAUSE_LIMIT, now = 50, timezone.now()
    incident = seen(host, "554 no", attempts=60, now=now)
    pause_pairs(now)
    sites.resume_site(incident.site, source_ip=incident.source_ip, actor=None, now=now)
    seen(host, "554 no", attempts=49, now=now)
    assert pause_pairs(now) == 0
    seen(host, "554 no", attempts=1, now=now)
    assert pause_pairs(now) == 1


def test_a_slow_trickle_pauses_nothing(host: Server, settings: Any) -> None:
    settings.INCIDENT_PAUSE_LIMIT, now = 50, timezone.now()
    for minutes in range(0, 100, 11):
        seen(host, "554 no", attempts=49, now=now + timedelta(minutes=minutes))
        assert pause_pairs(now + timedelta(minutes=minutes)) == 0


def test_nothing_is_paused_unless_settings_say_so(host: Server) -> None:
    seen(host, "554 no", attempts=100_000)
    assert pause_pairs(timezone.now()) == 0


@pytest.mark.parametrize(
    ("cause", "site", "replies", "words"),
    [
        (Cause.IP_REPUTATION, "example.net", [LISTED, LISTED], ["removal", "check.spamhaus.org"]),
        (Cause.AUTHENTICATION, "google", [], ["SPF, DKIM or DMARC", "Postmaster Tools"]),
        (Cause.IP_REPUTATION, "microsoft365", ["550 use sender.office.com"], ["removal", "sender.office.com"]),
        (Cause.PROTOCOL, "google", [], ["conversation"]),
    ],
)
def test_remedies_name_the_provider_and_the_lists_each_once(
    cause: Cause, site: str, replies: list[str], words: list[str]
) -> None:
    found = remedies(cause, site, replies)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))
