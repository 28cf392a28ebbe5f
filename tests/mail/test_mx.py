"""MX order, null MX and sites."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_project.mail.mx import MAX_SITE, PROVIDERS, MxRecord, is_null_mx, order_hosts, site_of

HOSTS = st.sampled_from(["a.example", "B.example.", "c.example", "d.example", "."])
RECORDS = st.lists(st.builds(MxRecord, st.integers(0, 3), HOSTS), max_size=8)


def test_equal_preferences_share_the_load() -> None:
    records = [MxRecord(10, "a.example"), MxRecord(10, "b.example"), MxRecord(20, "c.example")]
    orders = {tuple(order_hosts(records, random.Random(seed))) for seed in range(20)}
    assert orders == {("a.example", "b.example", "c.example"), ("b.example", "a.example", "c.example")}


@given(RECORDS, st.integers())
def test_hosts_come_by_preference_each_once(records: list[MxRecord], seed: int) -> None:
    hosts = order_hosts(records, random.Random(seed))
    spelled = {record.host.rstrip(".").lower() for record in records} - {""}
    assert sorted(hosts) == sorted(spelled)
    best = {host: min(r.preference for r in records if r.host.rstrip(".").lower() == host) for host in hosts}
    assert all(best[one] <= best[next_one] for one, next_one in pairwise(hosts))


def test_null_mx_is_seen() -> None:
    """Lesson C15: a null MX led to a connection to ourselves and 31 hours of retries."""
    assert is_null_mx([MxRecord(0, ".")])
    assert is_null_mx([MxRecord(0, "")])
    assert not is_null_mx([])
    assert not is_null_mx([MxRecord(0, "."), MxRecord(10, "mx.example.com")])
    assert order_hosts([MxRecord(0, "."), MxRecord(10, "mx.example.com")], random.Random(1)) == ["mx.example.com"]


@pytest.mark.parametrize(
    ("hosts", "site"),
    [
        (["aspmx.l.google.com", "alt1.aspmx.l.google.com"], "google"),
        (["SMTP.GOOGLE.COM."], "google"),
        (["example-com.mail.protection.outlook.com"], "microsoft365"),
        (["hotmail-com.olc.protection.outlook.com"], "outlook-consumer"),
        (["contoso-com.x-v1.mx.microsoft"], "microsoft365"),
        (["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], "yahoo"),
        (["mx.mail.yahoo.co.jp"], "yahoo-japan"),
        (["backup.example.com", "aspmx.l.google.com"], "google"),
        (["mx2.example.com.", "MX1.example.com"], "mx1.example.com,mx2.example.com"),
        (["notgoogle.com"], "notgoogle.com"),
        ([], ""),
    ],
)
def test_hosts_belong_to_their_site(hosts: list[str], site: str) -> None:
    assert site_of(hosts) == site
    assert site_of(hosts[::-1]) == site


def test_a_site_has_a_short_name() -> None:
    site = site_of([f"mx{i}.a-rather-long-name.example.com" for i in range(20)])
    assert len(site) <= MAX_SITE
    assert site != site_of([f"mx{i}.another-rather-long-name.example.com" for i in range(20)])


def test_every_provider_names_its_source_once() -> None:
    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    assert all(provider.source and provider.mx for provider in PROVIDERS)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_hosts_have_a_site(hosts: list[str]) -> None:
    assert len(site_of(hosts)) <= MAX_SITE
