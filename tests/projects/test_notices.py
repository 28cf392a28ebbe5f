"""Notices: to whom, how often, how many in one mail, and how people switch them off."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from projects import notices
from projects.models import Membership, Notice
from projects.notices import MOST, forget_notices, send_notices, tell_members, tell_staff
from projects.scopes import Scope

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _addresses(alice, bob, charlie, sam, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    for person in (alice, bob, charlie, sam):
        person.email = person.login
        person.save(update_fields=["email"])


def tell(project, about="webhook 1", subject="A webhook is disabled", scope=Scope.WEBHOOKS_WRITE):
    tell_members(project, scope, about, subject, f"{subject}: it answered 410.")


def test_those_who_can_mend_it_are_told_soon_and_once(project, mailoutbox):
    tell(project)
    tell(project)
    now = timezone.now()
    assert [send_notices(now), send_notices(now)] == [1, 0]
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["alice@example.test"], "A webhook is disabled")
    assert "answered 410" in mail.body
    assert "/console/account" in mail.body
    tell(project)
    assert Notice.objects.count() == 1, "nobody is told of the same twice within a day"
    Notice.objects.update(created_at=now - timedelta(hours=25))
    tell(project)
    assert send_notices(now + timedelta(hours=1)) == 1


def test_what_comes_soon_after_is_gathered_in_one_mail(project, mailoutbox, settings):
    settings.NOTICE_MINUTES = 15
    now = timezone.now()
    tell(project)
    send_notices(now)
    for number in range(3):
        tell(project, f"domain {number}", f"shop{number}.example is suspended", Scope.DOMAINS_READ)
    assert send_notices(now + timedelta(minutes=14)) == 0
    assert send_notices(now + timedelta(minutes=16)) == 2, "Bob may see domains"
    assert {mail.subject for mail in mailoutbox[1:]} == {"3 notices about Shop"}
    assert all(f"shop{number}.example is suspended" in mailoutbox[1].body for number in range(3))


def test_many_notices_are_told_in_several_mails(project, mailoutbox):
    for number in range(MOST + 1):
        tell(project, f"webhook {number}")
    now = timezone.now()
    assert [send_notices(now + timedelta(hours=hour)) for hour in range(3)] == [1, 1, 0]


def test_a_flood_about_one_thing_ends_and_crowds_out_nothing_else(project, monkeypatch, mailoutbox):
    monkeypatch.setattr(notices, "MOST_WAITING", 3)
    for number in range(5):
        tell(project, f"webhook {number}")
    tell(project, "domain 1", "shop.example is suspended", Scope.DOMAINS_WRITE)
    tell_staff("incident 1", "An incident", "gmail refuses mail.")
    assert Notice.objects.count() == 5
    assert send_notices(timezone.now()) == 2
    tell(project, "webhook 5")
    assert Notice.objects.filter(sent_at=None).count() == 1, "there is room again"


def test_the_name_of_a_project_adds_no_header(project, mailoutbox):
    """A line break in it made every mail with several notices fail."""
    type(project).objects.update(name="Shop\r\nBcc: x@y.test\u2028z")
    for number in range(2):
        tell(project, f"webhook {number}")
    assert send_notices(timezone.now()) == 1
    assert (mailoutbox[0].subject, mailoutbox[0].bcc) == ("2 notices about Shop Bcc: x@y.test z", [])


def test_each_chooses_for_which_projects(project, alice, sam, mailoutbox):
    browser = Client()
    browser.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    assert "Notices by e-mail" in browser.get("/console/account").content.decode()
    browser.post("/console/account/notices", {"project": ["x", "99999999999999999999"]})
    assert not Membership.objects.get(user=alice).wants_notices
    tell(project)
    assert send_notices(timezone.now()) == 0
    browser.post("/console/account/notices", {"project": [str(project.pk)]})
    assert Membership.objects.get(user=alice).wants_notices
    staff = Client()
    staff.force_login(sam, backend="accounts.sign_in.PasswordBackend")
    staff.post("/console/account/notices", {})
    tell_staff("incident 1", "An incident", "gmail refuses mail.")
    assert send_notices(timezone.now()) == 0
    sam.refresh_from_db()
    assert not sam.wants_staff_notices
    assert Client().post("/console/account/notices").status_code == 302


def test_staff_are_told_of_the_installation_and_nobody_else(project, mailoutbox):
    tell_staff("incident 1", "An incident", "gmail refuses mail.")
    send_notices(timezone.now())
    assert [mail.to for mail in mailoutbox] == [["sam@example.test"]]


def test_nobody_is_told_where_notices_are_switched_off(project, settings):
    settings.NOTICES = False
    tell(project)
    assert not Notice.objects.exists()


def test_what_is_rolled_back_is_told_to_nobody(project):
    with transaction.atomic():
        tell(project)
        transaction.set_rollback(True)
    assert send_notices(timezone.now()) == 0


def test_one_mail_that_fails_keeps_none_of_the_others(project, bob, mailoutbox):
    Membership.objects.filter(user=bob).update(scopes=["webhooks.write"])
    bob.email = "no address\r\nBcc: x@y.test"
    bob.save(update_fields=["email"])
    tell(project)
    assert send_notices(timezone.now()) == 1
    assert [mail.to for mail in mailoutbox] == [["alice@example.test"]]


def test_text_from_outside_is_cut_and_has_no_line_in_the_subject(project):
    tell(project, "webhook \0" * 50, "A\r\nBcc: x@y.test\0" + "x" * 500)
    row = Notice.objects.get()
    assert "\n" not in row.subject
    assert len(row.subject) <= 255


def test_old_notices_are_forgotten(project):
    tell(project)
    assert forget_notices(timezone.now() + timedelta(days=29)) == 0
    assert forget_notices(timezone.now() + timedelta(days=31)) == 1
