"""`manage.py grant_staff`, and the rule beneath it."""

import io
import re
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import AuditEntry, Identity, User
from accounts.staff import NotActive, grant, revoke, switch_off, switch_on

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    call_command("grant_staff", *arguments, stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def test_a_person_is_found_by_login_address_or_id(alice: User) -> None:
    bob = User.objects.create(name="Bob", email="Bob@example.com")
    for text, person in (("ALICE@example.com", alice), ("bob@example.COM", bob), (str(bob.pk), bob)):
        assert f"id {person.pk} " in run(text)
        assert User.objects.get(pk=person.pk).is_staff
        run(text, "--revoke")
        assert not User.objects.get(pk=person.pk).is_staff
    entry = AuditEntry.objects.filter(action="staff.granted").first()
    assert entry
    assert entry.actor_label == "command line"
    assert entry.detail["reason"].startswith("grant_staff")


def test_what_is_so_already_is_said_and_not_written_down(alice: User) -> None:
    assert "Was not staff" in run("alice@example.com", "--revoke")
    run("alice@example.com")
    assert "Already staff" in run("alice@example.com")
    assert actions() == ["staff.granted"]


def test_an_address_of_several_people_is_refused_with_their_ids(alice: User) -> None:
    other = User.objects.create(name="Alice", email="alice@example.com")
    Identity.objects.create(user=other, issuer="https://idp.example.com", subject="a-7")
    with pytest.raises(CommandError) as refusal:
        run("alice@example.com")
    assert f"id {alice.pk} " in str(refusal.value)
    assert f"id {other.pk} " in str(refusal.value)
    assert "a-7 at https://idp.example.com" in str(refusal.value)
    assert not User.objects.filter(is_staff=True).exists()


@pytest.mark.parametrize("text", ["nobody@example.com", "999999", "9" * 40, ""])
def test_nobody_is_a_clear_sentence(text: str) -> None:
    with pytest.raises(CommandError, match="Nobody has the login"):
        run(text)


def test_a_first_staff_member_is_made_with_a_link_that_works_once() -> None:
    told = run("Sam@Example.com", "--create", "--name", "Sam")
    match = re.search(r"http://\S+", told)
    assert match
    path = urlsplit(match[0]).path
    client = Client()
    assert client.post(path).status_code == 302
    sam = User.objects.get()
    assert client.session["_auth_user_id"] == str(sam.pk)
    assert (sam.login, sam.email, sam.name, sam.is_staff) == ("sam@example.com", "sam@example.com", "Sam", True)
    assert not sam.has_usable_password()
    assert Client().post(path).status_code == 410
    assert actions() == ["person.created", "staff.granted", "sign_in.link_made", "sign_in.link"]


def test_create_takes_who_is_there(alice: User) -> None:
    assert "http" not in run("alice@example.com", "--create")
    assert "http" in run("alice@example.com", "--create", "--link")
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["not an address", "--create"], "is an e-mail address"),
        (["alice@example.com", "--revoke", "--link"], "neither"),
        (["alice@example.com", "--name", "Alice"], "--create"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(alice: User, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)
    assert actions() == []


def test_a_person_who_is_switched_off_cannot_become_staff(alice: User) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(CommandError, match="switched off"):
        run("alice@example.com")


def test_revoking_the_last_one_says_that_nobody_is_left(sam: User) -> None:
    assert "Nobody is staff now." in run("sam@example.com", "--revoke")


def test_the_rule_writes_who_did_it(alice: User, sam: User) -> None:
    """Lesson S8: staff rights come from somebody, and the log says from whom."""
    assert grant(alice, actor=sam, address="192.0.2.7")
    assert not grant(alice, actor=sam)
    assert revoke(alice, actor=sam)
    entries = AuditEntry.objects.order_by("id")
    assert [(entry.action, entry.actor_id, entry.subject_id) for entry in entries] == [
        ("staff.granted", sam.pk, alice.pk),
        ("staff.revoked", sam.pk, alice.pk),
    ]
    alice.is_active = False
    with pytest.raises(NotActive):
        grant(alice, actor=sam)


def test_switching_off_takes_staff_rights_for_good(alice: User, sam: User) -> None:
    assert switch_off(sam, actor=alice)
    assert not switch_off(sam, actor=alice)
    assert switch_on(sam, actor=alice)
    sam.refresh_from_db()
    assert (sam.is_active, sam.is_staff) == (True, False)
    assert actions() == ["staff.revoked", "person.switched_off", "person.switched_on"]
