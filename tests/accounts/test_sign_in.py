"""Local sign-in: passwords and how often one may try, one-time links, the password page, signing out."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.db import connection
from django.test import Client
from structlog.testing import capture_logs

from accounts.models import AuditEntry, SignInLink, User
from accounts.sign_in import TRIES_PER_LOGIN, TRIES_PER_NETWORK, make_link, spend_links, sweep_links, use_link
from tests.accounts.cast import PASSWORD

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def submit(
    client: Client, login: str, password: str, target: str = "", address: str = "127.0.0.1", **headers: str
) -> Any:
    form = {"login": login, "password": password, "next": target}
    return client.post("/sign-in", form, REMOTE_ADDR=address, headers=headers)


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_the_right_password_signs_in_and_is_written_down(client: Client, alice: User) -> None:
    client.get("/sign-in")
    client.session.save()
    response = submit(client, " Alice@Example.com ", PASSWORD, "/console/domains", "192.0.2.7")
    assert (response.status_code, response["Location"]) == (302, "/console/domains")
    assert client.session["_auth_user_id"] == str(alice.pk)
    entry = AuditEntry.objects.get(action="sign_in.password")
    assert (entry.actor_id, entry.actor_label, entry.address) == (alice.pk, "Alice", "192.0.2.7")


@pytest.mark.parametrize(
    ("login", "password"),
    [("alice@example.com", "mistyped"), ("charlie@example.com", PASSWORD), ("x" * 254, PASSWORD)],
    ids=["wrong password", "unknown login", "long login"],
)
def test_wrong_and_unknown_look_alike(client: Client, alice: User, login: str, password: str) -> None:
    response = submit(client, login, password)
    assert response.status_code == 403
    assert b"Login or password is wrong." in response.content
    assert password.encode() not in response.content
    assert not is_signed_in(client)


def test_wrong_unknown_and_inactive_cost_the_same_hashing(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    encode = MD5PasswordHasher.encode
    monkeypatch.setattr(MD5PasswordHasher, "encode", lambda self, *args: (hashed.append(1), encode(self, *args))[1])
    bob = User.objects.create(login="bob@example.com", password=alice.password, is_active=False)
    costs = []
    for login in ("alice@example.com", "charlie@example.com", bob.login or ""):
        submit(client, login, "wrong")
        costs.append(len(hashed))
        hashed.clear()
    assert costs[0] == costs[1] == costs[2] > 0


def test_a_person_who_is_switched_off_does_not_sign_in(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert submit(client, "alice@example.com", PASSWORD).status_code == 403
    assert not is_signed_in(client)


def test_switching_a_person_off_ends_their_session(client: Client, alice: User) -> None:
    submit(client, "alice@example.com", PASSWORD)
    assert client.get("/account/password").status_code == 200
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert client.get("/account/password").status_code == 302


@pytest.mark.parametrize(
    "form",
    [{}, {"login": "alice@example.com"}, {"login": "a\0", "password": "x"}, {"login": "a", "password": "x" * 1025}],
    ids=["empty", "no password", "NUL", "long password"],
)
def test_a_form_that_is_none_is_refused_with_its_page(client: Client, alice: User, form: dict[str, str]) -> None:
    assert client.post("/sign-in", form).status_code == 400


def test_a_login_is_locked_after_some_tries_also_for_the_right_password(client: Client, alice: User) -> None:
    for _ in range(TRIES_PER_LOGIN.count):
        assert submit(client, "alice@example.com", "wrong").status_code == 403
    response = submit(client, "ALICE@example.com", PASSWORD, address="192.0.2.99")
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= TRIES_PER_LOGIN.seconds
    assert b"Try again in 15 minutes." in response.content
    assert not is_signed_in(client)
    entry = AuditEntry.objects.get(action="sign_in.locked")
    assert (entry.subject_id, entry.detail) == (alice.pk, {"limit": "login"})


def test_a_success_forgets_the_honest_mistakes(client: Client, alice: User) -> None:
    for _ in range(3):
        for _ in range(TRIES_PER_LOGIN.count - 1):
            submit(Client(), "alice@example.com", "wrong", address=f"192.0.2.{_}")
        assert submit(Client(), "alice@example.com", PASSWORD).status_code == 302


def test_a_network_is_locked_whatever_logins_it_tries_and_harms_only_itself(client: Client, alice: User) -> None:
    for number in range(TRIES_PER_NETWORK.count):
        submit(client, f"guess{number}@example.com", "wrong", address=f"2001:db8::{number:x}")
    for _ in range(TRIES_PER_LOGIN.count + 1):
        assert submit(client, "alice@example.com", PASSWORD, address="2001:db8::ffff").status_code == 429
    assert submit(client, "alice@example.com", PASSWORD, address="2001:db8:0:1::1").status_code == 302


def test_a_made_up_forwarded_address_does_not_help_a_guesser(client: Client, alice: User) -> None:
    """Lesson S4: without trusted proxies the header is the client's own invention."""
    for number in range(TRIES_PER_NETWORK.count):
        submit(client, f"guess{number}@example.com", "wrong", x_forwarded_for=f"192.0.2.{number}")
    response = submit(client, "alice@example.com", PASSWORD, x_forwarded_for="192.0.2.200")
    assert response.status_code == 429


def test_refused_passwords_are_in_no_log(client: Client, alice: User) -> None:
    """Lesson S9."""
    with capture_logs() as logs:
        submit(client, "alice@example.com", "a secret typed wrongly")
        submit(client, "a secret typed into the wrong field", "wrong")
    assert [line["event"] for line in logs].count("sign_in_refused") == 2
    assert "a secret typed" not in str(logs)


@pytest.mark.parametrize(
    "target",
    ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "javascript:alert(1)", "http:///e"],
)
def test_nobody_is_sent_to_another_host_after_signing_in(client: Client, alice: User, target: str) -> None:
    assert submit(client, "alice@example.com", PASSWORD, target)["Location"] == "/console/"


def test_local_sign_in_can_be_switched_off(client: Client, alice: User, settings: Any) -> None:
    settings.LOCAL_SIGN_IN = False
    assert submit(client, "alice@example.com", PASSWORD).status_code == 403
    assert not is_signed_in(client)
    assert 'type="password"' not in client.get("/sign-in").content.decode()


def test_a_form_of_another_site_is_refused(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    assert submit(client, "alice@example.com", PASSWORD).status_code == 403
    assert client.post(make_link(alice, NOW)).status_code == 403
    assert not is_signed_in(client)


def test_no_log_line_shows_a_link(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    """Lesson S9: whoever reads the logs must not be able to sign in, also when a browser without cookies tried."""
    link = make_link(alice, NOW)
    client = Client(enforce_csrf_checks=True)
    statuses = [client.get(link).status_code, Client(enforce_csrf_checks=True).post(link).status_code]
    statuses += [Client().put(link).status_code, Client().get(f"{link}x").status_code]
    assert statuses == [200, 403, 405, 410]
    assert link.rpartition("/")[2] not in caplog.text


def test_looking_at_a_link_does_not_burn_it(client: Client, alice: User) -> None:
    link = make_link(alice, NOW)
    for method in (client.get, client.head, client.get):
        response = method(link)
        assert response.status_code == 200
        assert response["Referrer-Policy"] == "strict-origin"
        assert "no-store" in response["Cache-Control"]
    assert not is_signed_in(client)
    assert client.post(link)["Location"] == "/console/"
    assert client.session["_auth_user_id"] == str(alice.pk)
    assert AuditEntry.objects.filter(action="sign_in.link", subject_id=alice.pk).exists()


def test_a_link_signs_in_once(client: Client, alice: User) -> None:
    link = make_link(alice, NOW)
    client.post(link)
    other = Client()
    assert (other.get(link).status_code, other.post(link).status_code) == (410, 410)
    assert not is_signed_in(other)


@pytest.mark.parametrize("change", ["expired", "spent", "switched off", "unknown"])
def test_a_link_that_is_no_more_does_not_sign_in(client: Client, alice: User, change: str) -> None:
    link = make_link(alice, NOW - timedelta(minutes=16) if change == "expired" else NOW)
    if change == "spent":
        assert spend_links(alice, NOW) == 1
    if change == "switched off":
        User.objects.update(is_active=False)
    if change == "unknown":
        link = link[:-3] + "abc"
    assert (client.get(link).status_code, client.post(link).status_code) == (410, 410)
    assert not is_signed_in(client)


def test_the_database_knows_only_the_hash_of_a_link(alice: User) -> None:
    token = make_link(alice, NOW).rpartition("/")[2]
    stored = SignInLink.objects.values().get()
    assert token not in str(stored)
    assert token not in str(list(AuditEntry.objects.values()))
    assert len(token) >= 43


def test_old_links_are_swept(alice: User) -> None:
    make_link(alice, NOW - timedelta(days=31))
    make_link(alice, NOW)
    assert sweep_links(NOW) == 1
    assert SignInLink.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_of_a_link_at_once_one_wins(alice: User) -> None:
    token = make_link(alice, NOW).rpartition("/")[2]
    barrier = threading.Barrier(6)
    winners = []

    def use() -> None:
        barrier.wait(10)
        try:
            winners.append(use_link(token, NOW))
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [winner for winner in winners if winner] == [alice]
    assert len(winners) == 6


def test_whoever_is_signed_in_is_told_so_and_not_sent_in_circles(client: Client, alice: User) -> None:
    submit(client, "alice@example.com", PASSWORD)
    page = client.get("/sign-in", {"next": "/admin/"})
    assert page.status_code == 200
    assert b"You are signed in as Alice" in page.content


def test_signing_out_takes_a_post(client: Client, alice: User) -> None:
    submit(client, "alice@example.com", PASSWORD)
    assert client.get("/sign-out").status_code == 405
    assert client.post("/sign-out")["Location"] == "/sign-in"
    assert not is_signed_in(client)


def test_the_admin_has_no_sign_in_form_of_its_own(client: Client, alice: User, sam: User) -> None:
    """Its form knows neither limits nor OIDC."""
    response = client.get("/admin/", follow=True)
    assert response.redirect_chain[-1] == ("/sign-in?next=%2Fadmin%2F", 302)
    assert client.post("/admin/login/", {"username": "alice@example.com", "password": PASSWORD}).status_code == 405
    client.force_login(alice, "accounts.sign_in.PasswordBackend")
    assert client.get("/admin/", follow=True).status_code == 403
    client.force_login(sam, "accounts.sign_in.PasswordBackend")
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/admin/"
    assert client.post("/admin/logout/")["Location"] == "/sign-in"


def change(client: Client, new: str, old: str | None = None, again: str | None = None) -> Any:
    form = {"new_password1": new, "new_password2": new if again is None else again}
    return client.post("/account/password", form if old is None else form | {"old_password": old})


def test_whoever_came_by_a_link_sets_a_first_password(client: Client, sam: User) -> None:
    client.post(make_link(sam, NOW))
    assert change(client, "a new and long password")["Location"] == "/console/"
    assert submit(Client(), "sam@example.com", "a new and long password").status_code == 302
    assert AuditEntry.objects.filter(action="account.password_changed", actor_id=sam.pk).exists()


def test_changing_a_password_takes_the_old_one_and_ends_other_sessions_and_links(client: Client, alice: User) -> None:
    other = Client()
    for each in (client, other):
        submit(each, "alice@example.com", PASSWORD)
    link = make_link(alice, NOW)
    assert change(client, "a new and long password", "wrong").status_code == 400
    assert change(client, "a new and long password").status_code == 400
    assert change(client, "a new and long password", PASSWORD).status_code == 302
    assert client.get("/account/password").status_code == 200
    assert other.get("/account/password").status_code == 302
    assert Client().post(link).status_code == 410


@pytest.mark.parametrize("new", ["short", "password123", "x" * 1025], ids=["short", "common", "endless"])
def test_a_poor_password_is_refused(client: Client, alice: User, new: str) -> None:
    submit(client, "alice@example.com", PASSWORD)
    assert change(client, new, PASSWORD).status_code == 400


def test_guessing_the_old_password_from_an_open_session_is_limited(client: Client, alice: User) -> None:
    submit(client, "alice@example.com", PASSWORD)
    for _ in range(10):
        assert change(client, "a new and long password", "wrong").status_code == 400
    response = change(client, "a new and long password", PASSWORD)
    assert response.status_code == 429
    assert int(response["Retry-After"]) > 0


def test_the_password_page_is_for_local_accounts(client: Client, db: None) -> None:
    assert client.get("/account/password")["Location"] == "/sign-in?next=/account/password"
    bob = User.objects.create(name="Bob", email="bob@example.com")
    client.force_login(bob, "accounts.sign_in.PasswordBackend")
    assert client.get("/account/password").status_code == 403


def test_passwords_are_hashed_slowly_by_default() -> None:
    from django.conf import global_settings

    import relay_project.settings as ours

    assert not hasattr(ours, "PASSWORD_HASHERS")
    assert "PBKDF2" in global_settings.PASSWORD_HASHERS[0]
