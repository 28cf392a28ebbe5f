"""Staff add and remove members and withdraw invitations; the project's people see who did."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from projects.activity import Filter as Wanted
from projects.activity import entries_of, entry_objects
from projects.models import Invitation, Membership, Project
from projects.scopes import SCOPES

World = dict[type[Model], Model]
ADD = "admin:projects_membership_add_person"


def test_staff_give_a_project_an_owner_again(staff_client: Client, sam: User, bob: User, world: World) -> None:
    project: Any = world[Project]
    Membership.objects.all().delete()
    url = reverse(ADD)
    assert staff_client.get(url).status_code == 200
    assert not Membership.objects.exists()
    done = staff_client.post(url, {"person": "bob@example.com", "project": project.pk, "role": "owner"}, follow=True)
    assert "Bob is a member of Shop now." in done.content.decode()
    assert Membership.objects.get().scopes == [scope.value for scope in SCOPES]
    [entry] = entry_objects(entries_of(project, Wanted(action="member"), 10), project)
    assert (entry["actor"]["kind"], entry["actor"]["id"], entry["subject"]["name"]) == ("staff", sam.pk, "Bob")


@pytest.mark.parametrize(
    "data",
    [
        {"person": "nobody@example.com", "role": "owner"},
        {"person": "bob@example.com", "role": "king"},
        {"person": "bob@example.com", "role": "owner", "project": "999999"},
        {"person": "bob@example.com", "role": "owner", "project": "x"},
        {"person": "bob@example.com", "role": "owner", "project": str(2**70)},
        {"person": "99999999999999999999", "role": "owner"},
        {},
    ],
)
def test_a_bad_addition_adds_nobody(staff_client: Client, world: World, data: dict[str, str]) -> None:
    before = Membership.objects.count()
    answer = staff_client.post(reverse(ADD), {"project": str(world[Project].pk), **data}, follow=True)
    assert answer.status_code == 200
    assert Membership.objects.count() == before


def test_staff_remove_a_member(staff_client: Client, world: World) -> None:
    member = world[Membership]
    url = reverse("admin:projects_membership_remove", args=[member.pk])
    assert staff_client.get(url).status_code == 200
    assert Membership.objects.filter(pk=member.pk).exists()
    assert staff_client.post(url, follow=True).status_code == 200
    assert not Membership.objects.filter(pk=member.pk).exists()
    assert AuditEntry.objects.filter(action="member.removed").exists()


def test_staff_withdraw_an_invitation(staff_client: Client, world: World) -> None:
    invitation = world[Invitation]
    staff_client.post(reverse("admin:projects_invitation_withdraw", args=[invitation.pk]))
    assert not Invitation.objects.exists()
    assert AuditEntry.objects.filter(action="invitation.withdrawn").exists()
