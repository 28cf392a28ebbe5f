"""projects.return_path against a real DNS server: used while its records are there, and not a moment longer."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection

from accounts.models import AuditEntry
from projects.models import Domain, Event
from projects.return_path import check_due, check_return_path, set_return_path
from projects.setup import ensure_instance
from relay_project.web.errors import Violations
from sending.deliver.load import KeyCache
from tests.projects.conftest import NOW

pytestmark = pytest.mark.django_db
HOST = "bounces.shop.example.test"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def instance(settings):
    settings.INSTANCE_DOMAIN = "relay.test"


@pytest.fixture
def aliased(published, domain):
    """The domain with a return path whose alias is in DNS."""
    published[f"CNAME {HOST}"] = ["relay.test."]
    return set_return_path(domain, HOST, NOW)


def used(domain: Domain) -> str:
    """The domain that MAIL FROM of its mail names now, if not the instance's."""
    return KeyCache().signing(domain.pk, "relay.test").return_path


def changes() -> list[tuple[str | None, str | None]]:
    events = Event.objects.filter(kind="domain.return_path.changed").order_by("id")
    return [(event.payload["old_status"], event.payload["new_status"]) for event in events]


def test_a_return_path_is_used_once_its_alias_is_found(aliased, published):
    assert used(aliased) == ""
    assert check_due(NOW) == 1
    assert used(aliased) == HOST
    assert check_due(NOW + HOUR / 2) == 0, "its turn comes every hour"
    assert changes() == [(None, "pending"), ("pending", "active")]


def test_mail_falls_back_to_the_instance_as_soon_as_the_records_are_gone(aliased, published):
    check_due(NOW)
    del published[f"CNAME {HOST}"]
    published[f"MX {HOST}"] = []
    assert check_due(NOW + HOUR) == 1
    assert used(aliased) == ""
    aliased.refresh_from_db()
    assert aliased.return_path_error_message == f"Nothing is found at {HOST}"
    published[f"CNAME {HOST}"] = ["relay.test."]
    assert check_due(NOW + HOUR + timedelta(minutes=4)) == 0
    assert check_due(NOW + HOUR + timedelta(minutes=5)) == 1
    assert used(aliased) == HOST
    assert changes()[-2:] == [("active", "pending"), ("pending", "active")]


def test_a_failing_resolver_changes_nothing(domain, published):
    """Lesson C21."""
    host = "servfail.shop.example.test"
    set_return_path(domain, host, NOW)
    Domain.objects.update(return_path_status="active")
    assert check_due(NOW) == 1
    assert used(domain) == host
    domain.refresh_from_db()
    assert "resolver failed" in domain.return_path_error_message
    assert check_due(NOW + timedelta(minutes=5)) == 1, "and is asked again soon"


def test_no_transaction_is_open_while_dns_is_asked(aliased, monkeypatch):
    """Rule 1 of the road; pytest's own transaction is the only one there is."""
    from projects import return_path

    depth, seen = len(connection.savepoint_ids), []
    real = return_path.look_up_all

    def watched(*args):
        seen.append(len(connection.savepoint_ids))
        return real(*args)

    monkeypatch.setattr(return_path, "look_up_all", watched)
    check_return_path(aliased, NOW)
    assert seen == [depth]


@pytest.mark.parametrize(
    ("records", "error"),
    [
        ({f"MX {HOST}": ["10 mx.relay.test."], HOST: ["v=spf1 include:relay.test -all"]}, None),
        ({f"MX {HOST}": ["10 relay.test."], HOST: ["v=spf1 include:RELAY.test -all"]}, None),
        # the instance's own MX, which the server says of every name
        ({HOST: ["v=spf1 include:relay.test -all"]}, None),
        ({f"MX {HOST}": ["10 mx.relay.test."]}, f"The SPF record of {HOST} does not include relay.test"),
        (
            {f"MX {HOST}": ["10 mx.relay.test."], HOST: ["v=spf1 include:other.test -all"]},
            f"The SPF record of {HOST} does not include relay.test",
        ),
        (
            {f"MX {HOST}": ["10 mx.relay.test.", "20 mx.else.test."], HOST: ["v=spf1 include:relay.test -all"]},
            f"{HOST} is no alias of relay.test, and its MX leads elsewhere",
        ),
        (
            {f"CNAME {HOST}": ["else.test."], "MX else.test": ["10 mx.else.test."]},
            f"{HOST} is no alias of relay.test, and its MX leads elsewhere",
        ),
        ({f"MX {HOST}": []}, f"Nothing is found at {HOST}"),
    ],
)  # fmt: skip
def test_what_counts_as_a_return_path(domain, published, records, error):
    published.update(records)
    _, result = check_return_path(set_return_path(domain, HOST, NOW), NOW)
    assert (result.error_message, result.verified) == (error, error is None)


def test_a_name_that_does_not_exist_is_said_so(domain, published):
    _, result = check_return_path(set_return_path(domain, "nxdomain.shop.example.test", NOW), NOW)
    assert (result.conclusive, result.error_message) == (True, "Nothing is found at nxdomain.shop.example.test")


def test_one_that_is_awaited_in_vain_is_looked_for_ever_more_rarely(domain, published):
    published[f"MX {HOST}"] = []
    set_return_path(domain, HOST, NOW)
    looked = [minute for minute in range(0, 600, 5) if check_due(NOW + timedelta(minutes=minute))]
    gaps = [later - earlier for earlier, later in pairwise(looked)]
    assert gaps[0] == 5
    assert max(gaps) == 60
    assert gaps == sorted(gaps)


@pytest.mark.parametrize(
    "host", ["shop.example.test", "bounces.else.test", "nonsense", "x" * 5000, "a b.shop.example.test"]
)
def test_only_hosts_below_the_domain_are_return_paths(domain, host):
    with pytest.raises(Violations, match="return_path: This value is not a host name below the domain"):
        set_return_path(domain, host, NOW)


def test_the_instance_domain_has_no_other(db):
    with pytest.raises(Violations, match="its own return path"):
        set_return_path(ensure_instance().domain, "bounces.relay.test", NOW)


# --- Over the API --------------------------------------------------------------------------------------------------


def test_the_api_sets_shows_and_takes_away_a_return_path(api, domain, published):
    status, shown = api.patch(f"/domains/{domain.pk}", {"return_path": "Bounces.Shop.Example.Test"})
    assert (status, shown["return_path"]) == (
        200,
        {"host": HOST, "status": "pending", "checked_at": None, "error_message": None},
    )
    assert api.patch(f"/domains/{domain.pk}", {})[1] == shown
    assert api.patch("/domains/shop.example.test", {"return_path": HOST})[1] == shown
    assert api.patch(f"/domains/{domain.pk}", {"return_path": None})[1]["return_path"] is None
    assert changes() == [(None, "pending"), ("pending", None)]
    details = [
        e.detail["return_path"] for e in AuditEntry.objects.filter(action="domain.return_path_set").order_by("id")
    ]
    assert details == [HOST, None]


def test_putting_a_domain_sets_its_return_path(api):
    path, said = "/domains/shop.example.test", {"return_path": HOST}
    first = api("PUT", path, said)
    assert first[1]["return_path"]["host"] == HOST
    assert api("PUT", path, said) == first
    assert api("PUT", path, {}) == first, "what is not said stays"
    assert api("PUT", path, {"return_path": None})[1]["return_path"] is None


@pytest.mark.parametrize("value", [7, [], {}, "nonsense", "else.test", "a\0b", "x" * 2000])
def test_nonsense_is_refused_at_the_field(api, domain, value):
    for method in ("PATCH", "PUT"):
        status, answer = api(method, "/domains/shop.example.test", {"return_path": value})
        assert (status, answer["violations"][0]["property"]) == (422, "return_path")


def test_other_tenants_and_readers_set_nothing(foreign_api, keyed, domain):
    assert foreign_api.patch(f"/domains/{domain.pk}", {"return_path": HOST})[0] == 403
    assert keyed("domains.read").patch(f"/domains/{domain.pk}", {"return_path": HOST})[0] == 403
    assert not Domain.objects.filter(return_path__isnull=False).exists()
