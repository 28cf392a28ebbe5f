"""New DKIM keys over time: what signs is always in DNS, and stays there for as long as what it signed is on its way."""

from datetime import timedelta

import pytest

from accounts.models import AuditEntry
from projects.dkim_keys import create_dkim_key, current_key, dkim_host, dkim_txt_value
from projects.dkim_rotation import add_key, check_key, check_waiting, drop_key, retire_due
from projects.domain_status import recheck_due, verify
from projects.domains import create_domain
from projects.models import DkimAlgorithm, DkimKey, Domain, Event
from projects.put_domain import put_domain
from relay_project.mail.dkim import generate_ed25519_key, generate_rsa_key, public_key_pem
from relay_project.web.errors import ApiError, Violations
from sending.content import signers_for
from tests.projects.conftest import NOW, PEM

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
OTHER_PEM, ED25519_PEM = generate_rsa_key(), generate_ed25519_key()


@pytest.fixture
def active(domain, published) -> Domain:
    """The domain, verified."""
    publish(published, current_key(domain))
    return verify(domain, NOW)


def publish(published, key) -> None:
    published[dkim_host(key)] = [dkim_txt_value(key)]


def states(domain: Domain) -> dict[str, str]:
    return {key.selector: str(key.state) for key in DkimKey.objects.filter(domain=domain)}


def signs(domain: Domain) -> list[tuple[str, str]]:
    """Selector and algorithm of each signature that a mail gets now."""
    return [(signer.selector, signer.key.algorithm) for signer in signers_for(domain.pk, "none.test")]


def changes() -> list[tuple[str, str | None, str | None]]:
    events = Event.objects.filter(kind="domain.dkim_key.changed").order_by("id")
    return [(e.payload["dkim_key"]["selector"], e.payload["old_state"], e.payload["new_state"]) for e in events]


def test_a_rotation_from_the_new_record_to_the_end_of_the_old_one(active, published, settings):
    settings.DKIM_OVERLAP = 7 * DAY
    key = add_key(active, NOW, "new", OTHER_PEM)
    assert check_waiting(NOW) == 1
    assert signs(active) == [("sel", "rsa-sha256")], "nothing signs with a key that is not in DNS"
    publish(published, key)
    assert check_waiting(NOW + timedelta(minutes=4)) == 0, "its turn comes every five minutes"
    assert check_waiting(NOW + timedelta(minutes=5)) == 1
    assert signs(active) == [("new", "rsa-sha256")]
    assert current_key(active).selector == "new"
    assert states(active) == {"sel": "retiring", "new": "active"}
    replaced_at = NOW + timedelta(minutes=5)
    assert DkimKey.objects.get(selector="sel").retires_at == replaced_at + 7 * DAY
    assert retire_due(replaced_at + 6 * DAY) == 0
    assert retire_due(replaced_at + 7 * DAY) == 1
    old = DkimKey.objects.get(selector="sel")
    assert (old.state, old.private_key) == ("retired", ""), "nobody needs the private half any more"
    assert changes() == [
        ("new", None, "pending"),
        ("sel", "active", "retiring"),
        ("new", "pending", "active"),
        ("sel", "retiring", "retired"),
    ]


def test_the_domain_is_checked_by_the_key_that_signs(active, published):
    key = add_key(active, NOW, "new", OTHER_PEM)
    publish(published, key)
    check_key(key, NOW)
    del published["sel._domainkey.shop.example.test"]
    recheck_due(NOW + DAY)
    active.refresh_from_db()
    assert active.status == "active"
    published.clear()
    recheck_due(NOW + 2 * DAY)
    active.refresh_from_db()
    assert active.status == "warning"


def test_a_failing_resolver_moves_no_key(project, published):
    """Lesson C21."""
    domain = create_domain(project, "a.test", "sel", PEM)
    key = add_key(domain, NOW, "servfail", OTHER_PEM)
    after, result = check_key(key, NOW)
    assert (after.state, result.conclusive) == ("pending", False)
    assert "resolver failed" in after.error_message
    assert [selector for selector, _ in signs(domain)] == ["sel"]


def test_an_ed25519_key_signs_beside_the_rsa_key_and_after_it(active, published):
    key = add_key(active, NOW, "ed", algorithm=DkimAlgorithm.ED25519)
    assert (key.algorithm, dkim_txt_value(key)[:20]) == ("ed25519", "v=DKIM1; k=ed25519; ")
    publish(published, key)
    check_key(key, NOW)
    assert signs(active) == [("sel", "rsa-sha256"), ("ed", "ed25519-sha256")]
    assert current_key(active).selector == "sel"
    drop_key(key, NOW)
    assert signs(active) == [("sel", "rsa-sha256")]
    assert states(active) == {"sel": "active", "ed": "retiring"}


def test_a_domain_of_an_ed25519_key_gets_an_rsa_key_that_signs_first(project, published):
    domain = create_domain(project, "a.test", "ed", ED25519_PEM)
    key = add_key(domain, NOW, "rsa", OTHER_PEM)
    publish(published, key)
    check_key(key, NOW)
    assert signs(domain) == [("rsa", "rsa-sha256"), ("ed", "ed25519-sha256")]
    drop_key(DkimKey.objects.get(selector="rsa"), NOW)
    assert (signs(domain), current_key(domain).selector) == ([("ed", "ed25519-sha256")], "ed")


def test_a_new_key_of_a_pending_domain_proves_the_domain(domain, published):
    key = add_key(domain, NOW, "new", OTHER_PEM)
    publish(published, key)
    check_key(key, NOW)
    domain.refresh_from_db()
    assert (domain.status, domain.dkim_error_message) == ("active", None)


def test_a_suspended_domain_stays_suspended(domain, published):
    Domain.objects.update(status="suspended")
    key = add_key(domain, NOW, "new", OTHER_PEM)
    publish(published, key)
    check_key(key, NOW)
    domain.refresh_from_db()
    assert domain.status == "suspended"


def test_one_key_of_an_algorithm_waits_at_a_time(active):
    add_key(active, NOW, "new", OTHER_PEM)
    with pytest.raises(ApiError, match="already has a key of this algorithm that waits"):
        add_key(active, NOW, "newer", generate_rsa_key())
    add_key(active, NOW, "ed", ED25519_PEM)


def test_selectors_and_keys_are_not_used_twice(active):
    with pytest.raises(Violations, match="dkim_selector: This domain has a key with this selector already"):
        add_key(active, NOW, "SEL", OTHER_PEM)
    with pytest.raises(Violations, match="dkim_private_key: This domain has this key already"):
        add_key(active, NOW, "new", PEM)
    assert states(active) == {"sel": "active"}


def test_the_only_key_stays_and_one_that_retires_is_not_deleted(active, published):
    with pytest.raises(ApiError, match="no other does"):
        drop_key(current_key(active), NOW)
    key = add_key(active, NOW, "new", OTHER_PEM)
    publish(published, key)
    check_key(key, NOW)
    old = DkimKey.objects.get(selector="sel")
    with pytest.raises(ApiError, match="still on its way"):
        drop_key(old, NOW)
    retire_due(NOW + 365 * DAY)
    drop_key(old, NOW)
    assert states(active) == {"new": "active"}


def test_a_key_that_waits_in_vain_is_forgotten_after_two_weeks(active):
    DkimKey.objects.filter(pk=add_key(active, NOW, "new", OTHER_PEM).pk).update(created_at=NOW)
    assert retire_due(NOW + 13 * DAY) == 0
    assert retire_due(NOW + 14 * DAY) == 1
    assert states(active) == {"sel": "active"}


def test_rows_of_a_version_that_knows_no_states_are_right(project):
    """It runs beside the new one for the length of a deploy."""
    domain = Domain.objects.create(project=project, domain="a.test")
    key = create_dkim_key(domain, "old", ED25519_PEM)
    key.refresh_from_db()
    assert (key.state, key.algorithm, key.is_current) == ("active", "ed25519", True)


# --- Over the API --------------------------------------------------------------------------------------------------


def test_the_api_shows_adds_checks_and_drops_keys(api, active, published):
    path = f"/domains/{active.pk}/dkim-keys"
    status, key = api.post(path, {})
    assert (status, key["state"], key["algorithm"], key["is_current"]) == (200, "pending", "rsa", False)
    assert key["dkim_host"] == f"{key['selector']}._domainkey.shop.example.test"
    assert api.post(f"{path}/{key['id']}/verify")[1]["error_message"] == "No TXT records found for DKIM host"
    published[key["dkim_host"]] = [key["dkim_txt_value"]]
    status, shown = api.post(f"{path}/{key['id']}/verify")
    assert (status, shown["state"], shown["is_current"], shown["error_message"]) == (200, "active", True, None)
    assert api.post(f"{path}/{key['id']}/verify")[0] == 400
    listed = api.get("/domains/shop.example.test/dkim-keys")[1]
    assert [(k["selector"], k["state"]) for k in listed] == [(key["selector"], "active"), ("sel", "retiring")]
    assert "PRIVATE" not in str(listed)
    assert api.get(f"/domains/{active.pk}")[1]["dkim_selector"] == key["selector"]
    status, ed = api.post(path, {"algorithm": "ed25519", "dkim_selector": "Ed"})
    assert (status, ed["algorithm"], ed["selector"]) == (200, "ed25519", "ed")
    assert api.delete(f"{path}/{ed['id']}") == (200, [])
    actions = list(AuditEntry.objects.filter(action__startswith="dkim_key").values_list("action", flat=True))
    assert sorted(actions) == ["dkim_key.added", "dkim_key.added", "dkim_key.dropped"]


@pytest.mark.parametrize(
    ("body", "property_"),
    [
        ({"algorithm": "dsa"}, "algorithm"),
        ({"algorithm": 1}, "algorithm"),
        ({"dkim_selector": "a.b"}, "dkim_selector"),
        ({"dkim_selector": "sel"}, "dkim_selector"),
        ({"dkim_private_key": "nonsense"}, "dkim_private_key"),
        ({"dkim_private_key": PEM}, "dkim_private_key"),
    ],
)
def test_what_is_wrong_with_a_new_key_is_named(api, active, body, property_):
    status, answer = api.post(f"/domains/{active.pk}/dkim-keys", body)
    assert (status, [v["property"] for v in answer["violations"]]) == (422, [property_])


def test_other_tenants_neither_see_nor_touch_keys(foreign_api, active):
    key = current_key(active)
    for ref, status in ((active.pk, 403), (active.domain, 404)):
        assert foreign_api.get(f"/domains/{ref}")[0] == status
        assert foreign_api.delete(f"/domains/{ref}")[0] == status
        assert foreign_api.get(f"/domains/{ref}/dkim-keys")[0] == status
        assert foreign_api.post(f"/domains/{ref}/dkim-keys", {})[0] == status
        assert foreign_api.delete(f"/domains/{ref}/dkim-keys/{key.pk}")[0] == status
        assert foreign_api.post(f"/domains/{ref}/dkim-keys/{key.pk}/verify")[0] == status
    theirs = foreign_api.post("/domains", {"domain": "mine.test"})[1]
    assert foreign_api.delete(f"/domains/{theirs['id']}/dkim-keys/{key.pk}") == (
        404,
        {"message": "DKIM key not found", "status": 404},
    )
    assert states(active) == {"sel": "active"}


@pytest.mark.parametrize("ref", ["0", "999999", str(2**70), "nowhere.test", "x", "%00", "%F0%9F%A6%84", "a" * 2000])
def test_domains_that_are_not_there_are_not_found(api, ref):
    assert api.get(f"/domains/{ref}")[0] == 404
    assert api.get(f"/domains/{ref}/dkim-keys")[0] == 404


def test_a_domain_is_named_by_id_or_by_name(api, domain):
    shown = api.get(f"/domains/{domain.pk}")[1]
    assert api.get("/domains/Shop.Example.Test") == (200, shown)
    assert api.get(f"/domains/by?id={domain.pk}") == (200, shown)
    assert api.delete("/domains/shop.example.test") == (200, {})
    assert not Domain.objects.exists()


def test_putting_a_domain_twice_is_as_putting_it_once(api):
    said = {"dkim_selector": "one", "dkim_private_key": PEM}
    status, first = api("PUT", "/domains/Terra.Example.Test", said)
    assert (status, first["domain"], first["dkim_selector"]) == (200, "terra.example.test", "one")
    assert api("PUT", "/domains/terra.example.test", said) == (200, first)
    assert api("PUT", f"/domains/{first['id']}", {}) == (200, first)
    assert DkimKey.objects.count() == 1
    for _ in range(2):  # another key is a rotation, begun once
        assert api("PUT", "/domains/terra.example.test", {"dkim_selector": "two"}) == (200, first)
    assert states(Domain.objects.get()) == {"one": "active", "two": "pending"}
    assert Event.objects.filter(kind="domain.created").count() == 1


@pytest.mark.parametrize(("ref", "status"), [("nonsense", 422), ("12", 404), ("relay.test", 422)])
def test_what_cannot_be_a_domain_is_not_put(api, ref, status, settings):
    settings.INSTANCE_DOMAIN = "relay.test"
    assert api("PUT", f"/domains/{ref}", {})[0] == status


def test_a_key_without_its_selector_is_recognised(project):
    domain = put_domain(project, "a.test", NOW, "one", PEM)
    assert put_domain(project, "A.test", NOW, private_key_pem=PEM) == domain
    put_domain(project, "a.test", NOW, private_key_pem=OTHER_PEM)
    put_domain(project, "a.test", NOW, private_key_pem=OTHER_PEM)
    assert list(DkimKey.objects.filter(state="pending").values_list("public_key", flat=True)) == [
        public_key_pem(OTHER_PEM)
    ]
