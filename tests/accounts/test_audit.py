"""The audit log: what is written, and that nothing is written over."""

import pytest
from django.db import InternalError, ProgrammingError, connection, transaction

from accounts import audit
from accounts.models import AuditEntry, User

pytestmark = pytest.mark.django_db


def test_an_entry_names_actor_and_subject(alice: User, sam: User) -> None:
    audit.record("staff.granted", actor=sam, subject=alice, project_id=7, address="2001:db8::1", detail={"why": "x"})
    entry = AuditEntry.objects.get()
    assert (entry.actor_id, entry.actor_label) == (sam.pk, "Sam")
    assert (entry.subject_kind, entry.subject_id, entry.project_id) == ("user", alice.pk, 7)
    assert (entry.address, entry.detail) == ("2001:db8::1", {"why": "x"})
    assert str(entry) == "staff.granted by Sam"


def test_an_entry_outlives_whom_it_names(alice: User, sam: User) -> None:
    audit.record("staff.granted", actor=sam, subject=alice)
    sam.delete()
    alice.delete()
    assert AuditEntry.objects.get().actor_label == "Sam"


def test_an_actor_with_a_hostile_name_is_written_readable(alice: User) -> None:
    alice.name = "A\0l\ud800" + "x" * 300
    audit.record("account.password_changed", actor=alice)
    assert len(AuditEntry.objects.get().actor_label) == 255


def test_an_entry_goes_with_the_transaction_of_what_it_tells(alice: User) -> None:
    with transaction.atomic():
        audit.record("staff.granted", actor=None, subject=alice)
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE accounts_auditentry SET action = 'nothing'", "DELETE FROM accounts_auditentry"],
    ids=["update", "delete"],
)
def test_the_database_refuses_to_change_an_entry(alice: User, statement: str) -> None:
    audit.record("staff.granted", actor=None, subject=alice)
    with pytest.raises((InternalError, ProgrammingError), match="append-only"), transaction.atomic():
        connection.cursor().execute(statement)
    assert AuditEntry.objects.get().action == "staff.granted"


def test_only_retention_may_delete_and_must_say_so(alice: User) -> None:
    audit.record("staff.granted", actor=None, subject=alice)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL relay.audit_retention = 'on'")
        cursor.execute("DELETE FROM accounts_auditentry")
    assert not AuditEntry.objects.exists()
