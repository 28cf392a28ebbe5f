"""The person that quickstart makes."""

import pytest
from django.test import Client

from relay_project.quickstart.demo import _make_person

pytestmark = pytest.mark.django_db


def test_the_demos_person_may_choose_a_password_without_an_old_one() -> None:
    """They came by a link: asked for an old password they could never have one."""
    person = _make_person()
    client = Client()
    client.force_login(person, backend="accounts.sign_in.PasswordBackend")
    assert b"none yet for the login you@relay.test" in client.get("/console/account").content
    assert b"Old password" not in client.get("/account/password").content
    new = "correct horse battery staple"
    assert client.post("/account/password", {"new_password1": new, "new_password2": new}).status_code == 302
    person.refresh_from_db()
    assert person.check_password(new)
