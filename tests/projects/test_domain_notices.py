"""What people are told by mail when something befalls their domain."""

from datetime import timedelta

import pytest
from django.utils import timezone

from projects.dkim_keys import current_key, dkim_host, dkim_txt_value
from projects.domain_status import recheck_due, suspend, verify
from projects.models import Membership, Notice
from projects.notices import send_notices
from projects.return_path import check_due, set_return_path
from tests.projects.conftest import NOW

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
HOST = "bounces.shop.example.test"


@pytest.fixture
def told(alice, bob, domain, published, mailoutbox, settings):
    """`told(do)` → (recipients, subject, text) of each mail that doing it makes."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    for person in (alice, bob):
        person.email = person.login
        person.save(update_fields=["email"])

    def after(do, *args):
        mailoutbox.clear()
        do(*args)
        send_notices(timezone.now())
        Notice.objects.update(sent_at=NOW, created_at=NOW)  # long ago
        return [(mail.to, mail.subject, mail.body) for mail in mailoutbox]

    return after


def test_members_who_can_mend_it_are_told_when_verification_ends(domain, published, told):
    host, value = dkim_host(current_key(domain)), dkim_txt_value(current_key(domain))
    published[host] = [value]
    ((people, subject, text),) = told(recheck_due, NOW)
    assert (people, subject) == (["alice@example.test"], "shop.example.test is verified")
    assert f"/console/{domain.project_id}/domains/{domain.pk}" in text
    del published[host]
    subjects = [told(recheck_due, NOW + days * DAY) for days in (1, 2, 3)]
    assert [[subject for _, subject, _ in mails] for mails in subjects] == [
        ["The DKIM record of shop.example.test is missing"],
        ["shop.example.test may no longer send"],
        [],
    ]
    assert "No TXT records found for DKIM host" in subjects[0][0][2]


def test_what_somebody_does_by_hand_is_no_news(domain, published, told):
    published[dkim_host(current_key(domain))] = [dkim_txt_value(current_key(domain))]
    assert told(verify, domain, NOW) == []


def test_a_failing_resolver_is_no_news(domain, published, told, settings):
    """Lesson C21."""
    settings.DNS_RESOLVERS = [("127.0.0.1", 9)]
    domain.status = "active"
    domain.save()
    assert told(recheck_due, NOW) == []


def test_the_reason_of_a_suspension_is_told(domain, told, sam):
    ((_, subject, text),) = told(suspend, domain, "Phishing & <more>", NOW, sam)
    assert subject == "shop.example.test is suspended"
    assert "Suspended: Phishing & <more>" in text


def test_a_return_path_that_was_steady_and_is_gone_is_told_of_once(domain, published, told):
    published[f"CNAME {HOST}"] = ["relay.test."]
    set_return_path(domain, HOST, NOW)
    told(check_due, NOW)
    del published[f"CNAME {HOST}"]
    published[f"MX {HOST}"] = []
    ((_, subject, text),) = told(check_due, NOW + DAY)
    assert subject == "The return path of shop.example.test is gone"
    assert f"Nothing is found at {HOST}" in text
    published[f"CNAME {HOST}"] = ["relay.test."]
    told(check_due, NOW + DAY + timedelta(hours=1))
    del published[f"CNAME {HOST}"]
    assert told(check_due, NOW + DAY + timedelta(hours=3)) == [], "it comes and goes"


def test_nobody_without_an_address_or_the_right_is_written_to(domain, published, told):
    Membership.objects.update(scopes=["domains.read"])
    published[dkim_host(current_key(domain))] = [dkim_txt_value(current_key(domain))]
    assert told(recheck_due, NOW) == []
