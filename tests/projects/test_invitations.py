"""Invitations by mail: over the API, in the console and behind the link; forged, reused, and accepted by others."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts.models import AuditEntry, User
from projects import invitations
from projects.api_keys import KeyChange, create_key, update_key
from projects.invitations import AlreadyMember, NotOpen, accept, find_open, invite, sweep_invitations
from projects.models import ApiKey, Invitation, Membership
from projects.roles import Role, scopes_of
from relay_project.db.rates import Rate

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LOCAL_SIGN_IN = True


@pytest.fixture
def owner(signed_in, alice, project):
    return signed_in(alice, project)


def link() -> str:
    """The path of the link in the newest mail."""
    found = re.search(r"https?://[^/\s]+(/console/invitation/\S+)", str(mail.outbox[-1].body))
    assert found
    return found[1]


def token() -> str:
    return link().rpartition("/")[2]


def browser(user: User | None = None) -> Client:
    client = Client()
    if user:
        client.force_login(user, backend="accounts.sign_in.PasswordBackend")
    return client


# --- Over the API --------------------------------------------------------------------------------------------------


def test_an_invitation_is_made_listed_and_sent(owner, alice, project):
    status, made = owner.post("/invitations", {"email": "Dora@Example.COM", "role": "support"})
    assert (status, made["email"], made["role"]) == (200, "Dora@example.com", "support")
    assert set(made) == {
        "id", "created_at", "email", "scopes", "role", "invited_by", "sent_at", "expires_at", "is_expired",
    }  # fmt: skip
    assert (made["invited_by"], made["is_expired"]) == ("Alice", False)
    assert abs(made["expires_at"] - NOW.timestamp() - 7 * 86400) < 600
    assert owner.get("/invitations") == (200, [made])
    [message] = mail.outbox
    assert (message.to, message.subject) == (["Dora@example.com"], "Alice invites you to Shop")
    entry = AuditEntry.objects.get(action="invitation.created")
    assert (entry.actor_id, entry.project_id, entry.detail["email"]) == (alice.pk, project.pk, "Dora@example.com")


def test_only_the_hash_of_a_link_is_stored_and_nobody_is_shown_it(owner):
    owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})
    everything = f"{Invitation.objects.values().get()}{list(AuditEntry.objects.values())}{owner.get('/invitations')}"
    assert token() not in everything


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "email"),
        ({"email": "", "role": "viewer"}, "email"),
        ({"email": "nobody", "role": "viewer"}, "email"),
        ({"email": "a@b", "role": "viewer"}, "email"),
        ({"email": "Bob <bob@example.com>", "role": "viewer"}, "email"),
        ({"email": "a@example.com, b@example.com", "role": "viewer"}, "email"),
        ({"email": "a@example.com\r\nBcc: b@example.com", "role": "viewer"}, "email"),
        ({"email": "a@example.com\n", "role": "king"}, "role"),
        ({"email": "a\0@example.com", "role": "viewer"}, "email"),
        ({"email": "x" * 300 + "@example.com", "role": "viewer"}, "email"),
        ({"email": 5, "role": "viewer"}, "email"),
        ({"email": "a@example.com"}, "scopes"),
        ({"email": "a@example.com", "scopes": []}, "scopes"),
        ({"email": "a@example.com", "scopes": ["x"]}, "scopes[0]"),
        ({"email": "a@example.com", "scopes": ["sends.read"], "role": "viewer"}, "role"),
    ],
)
def test_a_bad_invitation_is_refused_with_the_field(owner, body, where):
    status, answer = owner.post("/invitations", body)
    assert (status, answer["violations"][0]["property"]) == (422, where)
    assert not Invitation.objects.exists()
    assert not mail.outbox


def test_no_name_becomes_a_header_or_a_link(owner, alice, project):
    """What people call themselves and their projects reaches strangers' mailboxes: one short line, and no URL."""
    project.name = "Shop\r\nBcc: victim@example.com\n\nhttps://evil.example " + "x" * 200
    project.save()
    alice.name = "Alice\nX-Evil: 1"
    alice.save()
    assert owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[0] == 200
    message = mail.outbox[0]
    assert "\n" not in message.subject
    assert len(message.subject) < 160
    assert message.recipients() == ["dora@example.com"]
    assert "https://evil" not in f"{message.subject}{message.body}"
    assert {"X-Evil", "Bcc"} & set(message.message().keys()) == set()


def test_the_mail_leaves_as_a_send_of_the_system_project(owner, settings):
    from projects.setup import ensure_instance
    from queues.models import Queue
    from sending.models import Send

    Queue.objects.get_or_create(name="transactional", defaults={"is_default": True})
    ensure_instance()
    settings.EMAIL_BACKEND = "sending.email_backend.SystemProject"
    assert owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[0] == 200
    send = Send.objects.get()
    assert (send.project.is_system, send.subject) == (True, "Alice invites you to Shop")


def test_the_answer_does_not_tell_who_has_an_account(owner, charlie):
    known = owner.post("/invitations", {"email": "charlie@example.test", "role": "viewer"})
    unknown = owner.post("/invitations", {"email": "nobody@example.test", "role": "viewer"})
    hidden = {"id", "email", "created_at", "sent_at", "expires_at"}
    assert known[0] == unknown[0] == 200
    assert {k: v for k, v in known[1].items() if k not in hidden} == {
        k: v for k, v in unknown[1].items() if k not in hidden
    }
    assert not Membership.objects.filter(user=charlie, project__name="Shop").exists()


def test_an_address_is_invited_once(owner):
    assert owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[0] == 200
    status, answer = owner.post("/invitations", {"email": "DORA@example.com", "role": "owner"})
    assert (status, "invited already" in answer["message"]) == (400, True)


def test_scopes_of_ones_own_are_all_one_can_give(signed_in, bob, project, keyed):
    Membership.objects.filter(user=bob).update(scopes=["project.write"])
    body = {"email": "bob2@example.com", "role": "owner"}
    assert signed_in(bob, project).post("/invitations", body)[0] == 403
    assert keyed("project.write").post("/invitations", body)[0] == 403
    assert not mail.outbox
    for scopes in ({"project.read"}, {"sends.send"}):
        assert keyed(*scopes).post("/invitations", body)[0] == 403
        assert keyed(*scopes).get("/invitations")[0] == 403


def test_invitations_of_another_project_are_out_of_reach(owner, foreign_api):
    made = owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[1]
    refused = {"message": "Entity does not belong to the project", "status": 403}
    assert foreign_api.delete(f"/invitations/{made['id']}") == (403, refused)
    assert foreign_api.post(f"/invitations/{made['id']}/resend") == (403, refused)
    assert foreign_api.get("/invitations") == (200, [])
    assert owner.delete("/invitations/x")[0] == 400
    assert owner.delete("/invitations/99999")[0] == 404
    assert len(mail.outbox) == 1


def test_a_withdrawn_link_opens_nothing(owner, charlie):
    made = owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[1]
    assert browser().get(link()).status_code == 200
    assert owner.delete(f"/invitations/{made['id']}") == (200, [])
    assert browser().get(link()).status_code == 410
    assert browser(charlie).post(link()).status_code == 410
    assert AuditEntry.objects.filter(action="invitation.withdrawn").exists()


def test_sending_again_ends_the_former_link(owner, project):
    made = owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[1]
    former = link()
    Invitation.objects.update(expires_at=NOW - timedelta(days=1))
    assert owner.get("/invitations")[1][0]["is_expired"] is True
    status, again = owner.post(f"/invitations/{made['id']}/resend")
    assert (status, again["is_expired"], len(mail.outbox)) == (200, False, 2)
    assert browser().get(former).status_code == 410
    assert browser().get(link()).status_code == 200


def test_nobody_sends_an_invitation_again_that_they_could_not_make(owner, keyed):
    """A new link is a new gift of its scopes."""
    made = owner.post("/invitations", {"email": "dora@example.com", "role": "owner"})[1]
    assert keyed("project.write").post(f"/invitations/{made['id']}/resend")[0] == 403


def test_mails_to_strangers_are_bounded(owner, monkeypatch, foreign_api):
    monkeypatch.setattr(invitations, "MAILS_PER_PROJECT", Rate("invitation project", 3, 3600))
    monkeypatch.setattr(invitations, "MAILS_PER_ADDRESS", Rate("invitation address", 2, 86400))
    body = {"email": "dora@example.com", "role": "viewer"}
    made = owner.post("/invitations", body)[1]
    assert owner.post(f"/invitations/{made['id']}/resend")[0] == 200
    status, answer = foreign_api.post("/invitations", body)
    assert (status, answer["message"]) == (429, "Too many invitations. Please try again later.")
    assert owner.post("/invitations", {**body, "email": "ernie@example.com"})[0] == 200
    assert owner.post("/invitations", {**body, "email": "fred@example.com"})[0] == 429
    assert len(mail.outbox) == 3


def test_open_invitations_are_bounded(owner, monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 1)
    assert owner.post("/invitations", {"email": "a@example.com", "role": "viewer"})[0] == 200
    assert owner.post("/invitations", {"email": "b@example.com", "role": "viewer"})[0] == 400


def test_a_mail_that_fails_leaves_an_invitation_to_send_again(owner, settings):
    settings.EMAIL_BACKEND = "tests.projects.no_mail.Backend"
    status, answer = owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})
    assert (status, answer["message"]) == (503, invitations.NOT_SENT)
    [kept] = owner.get("/invitations")[1]
    assert kept["sent_at"] is None
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert owner.post(f"/invitations/{kept['id']}/resend")[1]["sent_at"] is not None


# --- Behind the link -----------------------------------------------------------------------------------------------


@pytest.fixture
def invited(owner, project):
    assert owner.post("/invitations", {"email": "dora@example.com", "role": "developer"})[0] == 200
    return link()


def test_the_page_says_who_invites_where_and_changes_nothing(invited, charlie):
    for client in (browser(), browser(charlie)):
        page = client.get(invited)
        text = page.content.decode()
        assert all(word in text for word in ("Alice", "Shop", "developer", "dora@example.com"))
        assert page["Referrer-Policy"] == "strict-origin"
        assert "no-store" in page["Cache-Control"]
    assert Invitation.objects.get().accepted_at is None


def test_whoever_signs_in_through_the_link_belongs_to_the_project(invited, charlie, project):
    page = browser().get(invited).content.decode()
    assert f"/sign-in?next={invited.replace('/', '%2F')}" in page
    answer = browser(charlie).post(invited)
    assert (answer.status_code, answer["Location"]) == (302, f"/console/{project.pk}")
    assert Membership.objects.get(user=charlie, project=project).scopes == scopes_of(Role.DEVELOPER)
    entry = AuditEntry.objects.get(action="invitation.accepted")
    assert (entry.actor_id, entry.project_id) == (charlie.pk, project.pk)
    assert entry.detail["email"] == "dora@example.com"


def test_a_link_works_once(invited, charlie, sam, project):
    assert browser(charlie).post(invited).status_code == 302
    assert browser(charlie).get(invited).status_code == 410
    assert browser(sam).post(invited).status_code == 410
    assert browser().post(invited, {"name": "Eve", "password": "correct horse battery"}).status_code == 410
    assert Membership.objects.filter(project=project).count() == 3


def test_a_link_runs_out(invited, charlie):
    Invitation.objects.update(expires_at=NOW - timedelta(seconds=1))
    assert browser(charlie).post(invited).status_code == 410
    assert sweep_invitations(NOW + timedelta(days=31)) == 1


@pytest.mark.parametrize("forged", ["x", "A" * 43, "%00", "..", "a" * 5000, "\u00fc"])
def test_a_forged_link_opens_nothing(invited, charlie, forged):
    answer = browser(charlie).post(f"/console/invitation/{forged}")
    assert answer.status_code in (404, 410)
    assert not Membership.objects.filter(user=charlie, project__name="Shop").exists()


def test_the_hash_is_no_link(invited, charlie):
    assert browser(charlie).post(f"/console/invitation/{Invitation.objects.get().token_hash}").status_code == 410


def test_trying_links_is_slowed_down(invited, monkeypatch):
    monkeypatch.setattr("projects.console.joining.WRONG_LINKS", Rate("invitation links", 2, 60))
    assert [browser().get("/console/invitation/x").status_code for _ in range(3)] == [410, 410, 429]
    assert browser().get(invited).status_code == 200


def test_joining_needs_the_csrf_token(invited, charlie):
    client = Client(enforce_csrf_checks=True)
    client.force_login(charlie, backend="accounts.sign_in.PasswordBackend")
    assert client.post(invited).status_code == 403


def test_a_member_does_not_use_it_up_nor_gain_by_it(invited, bob, project, charlie):
    assert browser(bob).post(invited).status_code == 302
    assert Membership.objects.get(user=bob).scopes == ["project.read", "domains.read"]
    assert browser(charlie).post(invited).status_code == 302


def test_a_person_without_an_account_makes_one(invited, project):
    client = browser()
    assert "Choose a password" in client.get(invited).content.decode()
    answer = client.post(invited, {"name": "Dora", "password": "correct horse battery"})
    assert answer.status_code == 302
    dora = User.objects.get(login="dora@example.com")
    assert (dora.name, dora.email, dora.check_password("correct horse battery")) == ("Dora", "dora@example.com", True)
    assert client.get(f"/console/{project.pk}").status_code == 200
    assert not dora.is_staff
    created = AuditEntry.objects.get(action="person.created")
    assert created.detail == {"by": "invitation"}


@pytest.mark.parametrize(
    "data",
    [{}, {"name": "Dora"}, {"name": "Dora", "password": "short"}, {"name": "Dora", "password": "password123"},
     {"name": "", "password": "correct horse battery"}, {"name": "D\0", "password": "correct horse battery"},
     {"name": "Dora", "password": "x" * 2000}],
)  # fmt: skip
def test_a_bad_account_is_not_made(invited, data):
    assert browser().post(invited, data).status_code == 400
    assert not User.objects.filter(login="dora@example.com").exists()
    assert Invitation.objects.get().accepted_at is None


def test_a_link_is_no_way_into_an_account_that_exists(invited, project):
    """A mail that was forwarded must not sign anybody in as its first recipient."""
    dora = User.objects.create(login="dora@example.com", name="Dora")
    client = browser()
    assert "Choose a password" not in client.get(invited).content.decode()
    assert client.post(invited, {"name": "Eve", "password": "correct horse battery"}).status_code == 403
    assert client.get(f"/console/{project.pk}").status_code == 302
    dora.refresh_from_db()
    assert (dora.name, dora.check_password("correct horse battery")) == ("Dora", False)


def test_no_account_is_made_where_people_sign_in_elsewhere(invited, settings):
    settings.LOCAL_SIGN_IN = False
    assert "Choose a password" not in browser().get(invited).content.decode()
    assert browser().post(invited, {"name": "D", "password": "correct horse battery"}).status_code == 403


def test_the_api_accepts_with_the_token(invited, signed_in, charlie, project, api):
    session = signed_in(charlie)
    assert api.post("/invitations/accept", {"token": token()})[0] == 403, "a key is nobody"
    assert session.post("/invitations/accept", {"token": "x"})[0] == 404
    assert session.post("/invitations/accept", {})[0] == 422
    status, membership = session.post("/invitations/accept", {"token": token()})
    assert (status, membership["role"], membership["user"]["id"]) == (200, "developer", charlie.pk)
    assert session.post("/invitations/accept", {"token": token()})[0] == 404


def test_a_switched_off_person_does_not_join(invited, charlie):
    charlie.is_active = False
    with pytest.raises(NotOpen):
        accept(token(), charlie, NOW)
    assert find_open(token(), NOW)


def test_the_rule_tells_a_member_so(invited, bob):
    with pytest.raises(AlreadyMember):
        accept(token(), bob, NOW)


# --- Whoever made it must still be able to ---------------------------------------------------------------------------


def test_a_removed_member_leaves_no_way_back(owner, api, bob, project, signed_in, charlie):
    """Bob invites a second address of his own, and is thrown out."""
    everything = Membership.objects.get(project=project, user__name="Alice").scopes
    Membership.objects.filter(user=bob).update(scopes=everything)
    assert signed_in(bob, project).post("/invitations", {"email": "bob2@example.com", "role": "owner"})[0] == 200
    assert api.delete(f"/project-users/{Membership.objects.get(user=bob).pk}")[0] == 200
    assert browser(charlie).post(link()).status_code == 410


def test_a_demoted_member_can_give_no_more_than_they_have_left(owner, bob, project, signed_in, charlie):
    everything = Membership.objects.get(project=project, user__name="Alice").scopes
    Membership.objects.filter(user=bob).update(scopes=everything)
    assert signed_in(bob, project).post("/invitations", {"email": "bob2@example.com", "role": "owner"})[0] == 200
    Membership.objects.filter(user=bob).update(scopes=["project.write", "project.read"])
    assert browser(charlie).post(link()).status_code == 410
    Membership.objects.filter(user=bob).update(scopes=everything)
    bob.is_active = False
    bob.save()
    assert browser(charlie).post(link()).status_code == 410


def test_the_invitations_of_a_key_end_with_it(keyed, charlie, project):
    keyed("project.write", "project.read").post("/invitations", {"email": "d@example.com", "scopes": ["project.read"]})
    assert mail.outbox[0].subject == "You are invited to Shop"
    key = ApiKey.objects.get()
    update_key(key, KeyChange(is_enabled=False))
    assert browser(charlie).post(link()).status_code == 410
    update_key(key, KeyChange(is_enabled=True))
    assert browser(charlie).get(link()).status_code == 200
    key.delete()
    assert browser(charlie).post(link()).status_code == 410


def test_our_own_code_may_invite(project, charlie):
    invite(project, "dora@example.com", ["project.read"], NOW)
    assert accept(token(), charlie, NOW).scopes == ["project.read"]
    assert create_key(project, "k", ["project.read"])


# --- In the console ------------------------------------------------------------------------------------------------


def test_the_console_invites_sends_again_and_withdraws(alice, project):
    client, pages = browser(alice), f"/console/{project.pk}"
    assert "Send invitation" in client.get(f"{pages}/invitations/new").content.decode()
    answer = client.post(f"{pages}/invitations/new", {"email": "dora@example.com", "role": "support"}, follow=True)
    text = answer.content.decode()
    assert "on its way to dora@example.com" in text
    assert "support" in text
    invitation = Invitation.objects.get()
    assert client.post(f"{pages}/invitations/{invitation.pk}/resend").status_code == 302
    assert len(mail.outbox) == 2
    assert client.post(f"{pages}/invitations/{invitation.pk}/delete").status_code == 302
    assert not Invitation.objects.exists()


def test_the_console_shows_what_is_wrong_with_an_invitation(alice, project):
    client, page = browser(alice), f"/console/{project.pk}/invitations/new"
    for data in (
        {"email": "nobody", "role": "viewer"},
        {"email": "a@example.com"},
        {"email": "a@example.com", "role": "custom"},
        {"email": "a@example.com", "role": "king"},
        {"email": "a@example.com", "role": "custom", "scopes": ["x"]},
        {"email": "a\0@example.com", "role": "viewer"},
    ):
        assert client.post(page, data).status_code == 400
    assert not mail.outbox


def test_the_console_changes_and_removes_members(alice, bob, project):
    client, pages = browser(alice), f"/console/{project.pk}/members"
    bobs, alices = (Membership.objects.get(user=user) for user in (bob, alice))
    assert "owner" in client.get(pages).content.decode()
    assert client.get(f"{pages}/{bobs.pk}").status_code == 200
    assert client.post(f"{pages}/{bobs.pk}", {"role": "custom", "scopes": ["sends.read"]}).status_code == 302
    bobs.refresh_from_db()
    assert bobs.scopes == ["sends.read"]
    assert client.post(f"{pages}/{alices.pk}", {"role": "viewer"}).status_code == 400
    assert "last owner" in client.post(f"{pages}/{alices.pk}/delete", follow=True).content.decode()
    assert client.post(f"{pages}/{bobs.pk}/delete").status_code == 302
    assert not Membership.objects.filter(user=bob).exists()


def test_the_console_adds_an_account(alice, charlie, project):
    client, page = browser(alice), f"/console/{project.pk}/members/new"
    assert client.get(page).status_code == 200
    assert client.post(page, {"person": "nobody@example.com", "role": "viewer"}).status_code == 400
    assert client.post(page, {"person": "charlie@example.test", "role": "viewer"}).status_code == 302
    assert Membership.objects.get(user=charlie, project=project).scopes == scopes_of(Role.VIEWER)


def test_a_member_without_the_scope_sees_members_and_may_only_leave(bob, alice, project):
    client, pages = browser(bob), f"/console/{project.pk}/members"
    text = client.get(pages).content.decode()
    assert "Alice" in text
    assert "Invite" not in text
    for path in ("new", str(Membership.objects.get(user=alice).pk)):
        assert client.get(f"{pages}/{path}").status_code == 403
    assert client.get(f"/console/{project.pk}/invitations/new").status_code == 403
    assert client.post(f"{pages}/{Membership.objects.get(user=alice).pk}/delete").status_code == 403
    assert client.post(f"{pages}/{Membership.objects.get(user=bob).pk}/delete").status_code == 302
    assert not Membership.objects.filter(user=bob).exists()


def test_the_console_of_another_project_reaches_nothing(charlie, alice, bob, project, foreign, owner):
    made = owner.post("/invitations", {"email": "dora@example.com", "role": "viewer"})[1]
    client = browser(charlie)
    own = f"/console/{foreign.pk}"
    bobs = Membership.objects.get(user=bob).pk
    assert client.get(f"{own}/members/{bobs}").status_code == 404
    assert client.post(f"{own}/members/{bobs}/delete").status_code == 404
    assert client.post(f"{own}/invitations/{made['id']}/delete").status_code == 404
    assert client.post(f"{own}/invitations/{made['id']}/resend").status_code == 404
    assert client.get(f"/console/{project.pk}/members").status_code == 404


def test_a_project_is_left_from_the_account_page(bob, alice, project):
    client = browser(bob)
    assert "Leave Shop" in client.get("/console/account").content.decode()
    alices = Membership.objects.get(user=alice).pk
    assert client.post(f"/console/memberships/{alices}/leave").status_code == 404
    assert client.post(f"/console/memberships/{Membership.objects.get(user=bob).pk}/leave").status_code == 302
    assert not Membership.objects.filter(user=bob).exists()
    assert "last owner" in browser(alice).post(f"/console/memberships/{alices}/leave", follow=True).content.decode()
