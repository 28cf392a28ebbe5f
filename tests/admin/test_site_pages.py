"""Staff limit, pause and resume sites, take lessons back, and warm IPs up, each by an action that asks."""

from datetime import timedelta
from typing import Any

from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ips.models import HeldSite, SiteLimit, SourceIp
from tests.admin.test_actions import carry_out, last_entry, url_of

World = dict[type[Model], Model]


def on_list(client: Client, action: str, **data: Any) -> str:
    url = reverse(f"admin:ips_sitelimit_{action}")
    assert client.get(url).status_code == 200
    done = client.post(url, data, follow=True)
    assert done.status_code == 200
    return "; ".join(str(message) for message in done.context["messages"])


def test_a_site_is_paused_with_a_reason_and_resumed(staff_client: Client, world: World) -> None:
    told = on_list(staff_client, "pause_site", site="Google", source_ip="", reason="they asked us")
    assert told == "Google is paused."
    row = SiteLimit.objects.get(site="google")
    assert (row.source_ip, row.pause_reason) == (None, "they asked us")
    entry = last_entry()
    assert (entry.action, entry.detail) == (
        "site.paused",
        {"site": "google", "source_ip": None, "reason": "they asked us"},
    )
    assert "paused" in staff_client.get(reverse("admin:ips_sitelimit_changelist") + "?standing=paused").content.decode()
    staff_client.post(url_of(row, "resume"), follow=True)
    assert not SiteLimit.objects.filter(site="google").exists(), "nothing is left to say"
    assert last_entry().action == "site.resumed"


def test_limits_are_set_for_every_ip_or_for_one_and_shown_as_they_were(staff_client: Client, world: World) -> None:
    on_list(staff_client, "limit_site", site="google", per_minute="20")
    row = SiteLimit.objects.get(site="google")
    assert (row.per_minute, row.connections) == (20, None)
    form = staff_client.get(url_of(row, "set_limits")).content.decode()
    assert 'value="20"' in form
    assert "Enter a whole number" in staff_client.post(url_of(row, "set_limits"), {"per_hour": "many"}).content.decode()
    page = staff_client.get(reverse("admin:ips_sitelimit_change", args=[row.pk])).content.decode()
    assert "10 connections, 50 messages each, 20 a minute" in page, "with what the provider's default adds"
    mine: Any = world[SiteLimit]
    carry_out(staff_client, mine, "set_limits", connections="7")
    mine.refresh_from_db()
    assert (mine.connections, mine.learned_per_minute) == (7, 20)


def test_a_lesson_is_taken_back_or_its_pause_ended(staff_client: Client, world: World) -> None:
    row: Any = world[SiteLimit]
    staff_client.post(url_of(row, "flush"))
    row.refresh_from_db()
    assert row.learned_per_minute == 20
    assert staff_client.get(url_of(row, "flush")).status_code == 404, "it is over"
    staff_client.post(url_of(row, "forget_learned"))
    row.refresh_from_db()
    assert (row.learned_at, row.connections) == (None, 3)
    assert last_entry().detail["reply"] == "421 4.7.0 <b>Slow down</b>"


def test_the_list_leaves_out_sites_that_are_held_no_more(staff_client: Client, world: World) -> None:
    held: Any = world[HeldSite]
    HeldSite.objects.update(next_slot=timezone.now() - timedelta(minutes=1))
    listed = reverse("admin:ips_heldsite_changelist")
    assert "421 4.7.0 Slow down" not in staff_client.get(listed).content.decode()
    assert "421 4.7.0 Slow down" in staff_client.get(f"{listed}?slot=any").content.decode()
    assert staff_client.get(reverse("admin:ips_heldsite_change", args=[held.pk])).status_code == 200


def test_a_held_sites_page_leads_to_what_can_be_done(staff_client: Client, world: World) -> None:
    held: Any = world[HeldSite]
    carry_out(staff_client, held, "pause", reason="maintenance there")
    assert SiteLimit.objects.get(site="example.net", source_ip=None).paused_at is not None
    told = staff_client.post(url_of(held, "flush"), follow=True).context["messages"]
    assert "is tried again" in str(next(iter(told)))


def test_a_source_ip_is_warmed_up_and_its_day_is_shown(staff_client: Client, world: World) -> None:
    source_ip: Any = world[SourceIp]
    assert staff_client.get(url_of(source_ip, "stop_warm_up")).status_code == 404
    assert "at most 50 messages today" in carry_out(staff_client, source_ip, "start_warm_up")
    page = staff_client.get(reverse("admin:ips_sourceip_changelist")).content.decode()
    assert "day 1 of 15" in page
    assert last_entry().action == "source_ip.warmup_started"
    staff_client.post(url_of(source_ip, "stop_warm_up"))
    source_ip.refresh_from_db()
    assert source_ip.warmup_started_on is None
