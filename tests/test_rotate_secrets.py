"""`manage.py rotate_secrets`: after it the old secret can go, whatever happens beside it."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from projects.models import DkimKey, Domain, Project
from relay_project.db import keyring
from relay_project.management.commands import rotate_secrets

pytestmark = pytest.mark.django_db
OLD, NEW, LOST = "an old secret of thirty-two characters", "a new secret of thirty-two characters", "lost" * 10


def make_keys(count: int, text: str = "a private key") -> list[DkimKey]:
    project = Project.objects.get_or_create(name="Rotation", send_type="transactional")[0]
    domain = Domain.objects.get_or_create(project=project, domain="example.com")[0]
    taken = DkimKey.objects.filter(domain=domain).count()
    return DkimKey.objects.bulk_create(
        DkimKey(
            domain=domain,
            selector=f"s{taken + number}",
            private_key=f"{text} {number}",
            public_key="",
            is_current=False,
            state="retired",
        )
        for number in range(count)
    )


def token_of(key: DkimKey) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_key FROM projects_dkimkey WHERE id = %s", [key.pk])
        return cursor.fetchone()[0]


def run() -> str:
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    return out.getvalue()


def test_every_encrypted_field_is_found() -> None:
    found = {column.label for column in rotate_secrets.encrypted_columns()}
    assert found >= {"projects.DkimKey.private_key", "webhooks.Webhook.secret"}


def test_afterwards_the_old_secret_can_go(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson S9: APP_SECRET can be rotated, over several batches, and no log or output shows a secret."""
    monkeypatch.setattr(rotate_secrets, "BATCH_ROWS", 3)
    settings.APP_SECRETS = [OLD]
    make_keys(7)
    settings.APP_SECRETS = [NEW, OLD]
    make_keys(2)
    told = run()
    assert "projects.DkimKey.private_key: 7 re-encrypted, 2 were current, 0 unreadable" in told
    assert "private key" not in told
    assert "gAAAA" not in told
    settings.APP_SECRETS = [NEW]
    texts = sorted(DkimKey.objects.values_list("private_key", flat=True))
    assert texts == sorted([*(f"a private key {n}" for n in range(7)), "a private key 0", "a private key 1"])


def test_a_second_run_changes_nothing(settings: Any) -> None:
    settings.APP_SECRETS = [OLD]
    (key,) = make_keys(1)
    settings.APP_SECRETS = [NEW, OLD]
    run()
    token = token_of(key)
    assert "0 re-encrypted, 1 were current" in run()
    assert token_of(key) == token


def test_a_run_that_was_killed_goes_on_where_it_was(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate_secrets, "BATCH_ROWS", 2)
    settings.APP_SECRETS = [OLD]
    make_keys(5)
    settings.APP_SECRETS = [NEW, OLD]
    write = rotate_secrets._write
    calls = []

    def die_later(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*args)

    monkeypatch.setattr(rotate_secrets, "_write", die_later)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(rotate_secrets, "_write", write)
    assert "1 re-encrypted, 4 were current" in run()


def test_an_edit_at_the_same_time_wins_and_is_rotated_in_its_turn(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.APP_SECRETS = [OLD]
    first, second = make_keys(2)
    edited = keyring.encrypt("edited meanwhile")
    settings.APP_SECRETS = [NEW, OLD]
    write = rotate_secrets._write
    calls = []

    def edit_first(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 1:  # a process that still runs with the old secret
            with connection.cursor() as cursor:
                cursor.execute("UPDATE projects_dkimkey SET private_key = %s WHERE id = %s", [edited, first.pk])
        return write(*args)

    monkeypatch.setattr(rotate_secrets, "_write", edit_first)
    assert "2 re-encrypted" in run()
    settings.APP_SECRETS = [NEW]
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.private_key, second.private_key) == ("edited meanwhile", "a private key 1")


def test_edits_under_the_old_secret_that_never_end_are_said(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.APP_SECRETS = [OLD]
    make_keys(1)
    settings.APP_SECRETS = [NEW, OLD]
    monkeypatch.setattr(rotate_secrets, "_write", lambda *args: 0)
    with pytest.raises(CommandError, match="restart every process"):
        run()


def test_a_secret_that_nobody_reads_is_counted_and_left_and_the_others_rotate(settings: Any) -> None:
    settings.APP_SECRETS = [LOST]
    (lost,) = make_keys(1)
    token = token_of(lost)
    settings.APP_SECRETS = [OLD]
    (fine,) = make_keys(1)
    settings.APP_SECRETS = [NEW, OLD]
    with pytest.raises(CommandError, match="1 secrets were written with a secret that is not in APP_SECRETS_OLD"):
        run()
    assert token_of(lost) == token
    assert keyring.is_current(token_of(fine))
