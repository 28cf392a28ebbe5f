"""First sign-ins that happen at the same time."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from accounts.identities import Profile, sign_in_person
from accounts.models import AuditEntry, Identity, User

pytestmark = pytest.mark.django_db(transaction=True)


def sign_in_at_once(subjects: list[str]) -> list[int]:
    barrier = threading.Barrier(len(subjects))
    found = []

    def sign_in(subject: str) -> None:
        barrier.wait(10)
        try:
            found.append(sign_in_person("https://idp.example.com", subject, Profile(), datetime.now(UTC)).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=sign_in, args=(subject,)) for subject in subjects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(subjects)
    return found


@pytest.mark.parametrize("first_is_staff", [False, True])
def test_one_identity_signing_in_twice_at_once_is_one_person(settings: Any, first_is_staff: bool) -> None:
    settings.OIDC_FIRST_USER_IS_STAFF = first_is_staff
    assert len(set(sign_in_at_once(["alice"] * 6))) == 1
    assert (User.objects.count(), Identity.objects.count()) == (1, 1)
    assert AuditEntry.objects.filter(action="person.created").count() == 1
    assert User.objects.get().is_staff is first_is_staff


def test_of_many_first_users_at_once_one_is_staff(settings: Any) -> None:
    """Lesson S8: the setting means one person, also in a race."""
    settings.OIDC_FIRST_USER_IS_STAFF = True
    sign_in_at_once([f"person {number}" for number in range(6)])
    assert User.objects.count() == 6
    assert User.objects.filter(is_staff=True).count() == 1
    assert AuditEntry.objects.filter(action="staff.granted").count() == 1
