"""Putting one address on the list and taking it off again, each with its event in the same transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from accounts import audit
from accounts.models import User
from projects.access import Caller, record_by
from projects.events import NewEvent, emit
from projects.models import Project
from projects.objects import timestamp
from relay_project.mail.address import InvalidAddress, parse_mailbox, suppression_key
from relay_project.web.errors import violation
from sending.models import Suppression, SuppressionReason
from sending.suppress import MAX_DESCRIPTION, MAX_EMAIL, Target, upsert
from sending.suppressions.objects import suppression_payload

NOT_AN_ADDRESS = "This value is not a valid email address."
IN_THE_PAST = "This value should be a time in the future."


@dataclass(frozen=True, slots=True)
class Wanted:
    """One address to suppress: its key, for all mail of its project (or, without a project, of the installation) or a list.

    `detail`: what the event tells beside the row.
    """

    email: str
    reason: SuppressionReason = SuppressionReason.MANUAL
    description: str | None = None
    list_name: str | None = None
    expires_at: datetime | None = None


def email_key(text: str) -> str:
    """The key of an address that somebody gave; raises Violations for what is none."""
    try:
        key = suppression_key(parse_mailbox(text.strip()).address)
    except InvalidAddress:
        raise violation("email", NOT_AN_ADDRESS) from None
    if len(key) > MAX_EMAIL:
        raise violation("email", NOT_AN_ADDRESS)
    return key


_ADD = """
SELECT %(project)s::bigint AS project_id, %(list)s::text AS list, %(email)s::text AS email, %(reason)s::text AS reason,
       %(description)s::text AS description, %(expires_at)s::timestamptz AS expires_at
"""


def put(project_id: int | None, wanted: Wanted, **detail: Any) -> tuple[Suppression, bool]:
    """Suppress an address in the caller's transaction; returns its row and whether it is new.

    One that is there already keeps its reason; only a later end is taken over (lesson C7). `detail` goes into the event.
    """
    assert connection.in_atomic_block
    target = _target(project_id, wanted.list_name)
    with connection.cursor() as cursor:
        cursor.execute(
            upsert(target, _ADD),
            {
                "project": project_id,
                "list": wanted.list_name,
                "email": wanted.email,
                "reason": wanted.reason.value,
                "description": None if wanted.description is None else wanted.description[:MAX_DESCRIPTION],
                "expires_at": wanted.expires_at,
            },
        )
        written = cursor.fetchone()
    row = find_one(project_id, wanted.email, wanted.list_name)
    assert row is not None, "it was there, or is now"
    is_new = written is not None and bool(written[4])
    if is_new and project_id is not None:
        payload = {**suppression_payload(row), **detail}
        emit(NewEvent(project_id, "suppression.created", "suppression", row.pk, payload))
    return row, is_new


def _target(project_id: int | None, list_name: str | None) -> Target:
    if project_id is None:
        return Target.INSTANCE
    return Target.PROJECT if list_name is None else Target.LIST


def find_one(project_id: int | None, email: str, list_name: str | None = None) -> Suppression | None:
    """The row of an address (its key) in one scope."""
    scope = {"project_id": project_id} if list_name is None else {"list_project_id": project_id, "list": list_name}
    if project_id is None:
        scope["list_project_id"] = None
    return Suppression.objects.filter(email=email, **scope).first()


def take_off(row: Suppression, **detail: Any) -> bool:
    """Remove a row in the caller's transaction, whatever its reason; False when somebody else did."""
    assert connection.in_atomic_block
    deleted, _ = Suppression.objects.filter(pk=row.pk).delete()
    if deleted and row.owner_id is not None:
        payload = {"created_at": timestamp(row.created_at), **suppression_payload(row), **detail}
        emit(NewEvent(row.owner_id, "suppression.deleted", "suppression", row.pk, payload))
    return bool(deleted)


def add(project: Project, wanted: Wanted, caller: Caller) -> tuple[Suppression, bool]:
    """What `POST /suppressions` and the console's form do: with an entry in the audit log when the row is new."""
    with transaction.atomic():
        row, is_new = put(project.pk, wanted)
        if is_new:
            record_by(caller, "suppression.added", row, project, reason=row.reason, list=row.list)
    return row, is_new


def remove(project: Project, row: Suppression, caller: Caller) -> None:
    """Take an address off a project's list, with its entry in the audit log."""
    with transaction.atomic():
        if take_off(row):
            record_by(caller, "suppression.removed", row, project, reason=row.reason, list=row.list)


def add_everywhere(wanted: Wanted, actor: User, address: str | None) -> tuple[Suppression, bool]:
    """Staff suppress an address for all projects. No event: it is no project's row."""
    with transaction.atomic():
        row, is_new = put(None, wanted)
        if is_new:
            detail = {"email": row.email, "reason": row.reason}
            audit.record("suppression.added_everywhere", actor=actor, subject=row, address=address, detail=detail)
    return row, is_new


def remove_everywhere(row: Suppression, actor: User, address: str | None) -> None:
    """Staff take that back."""
    with transaction.atomic():
        if take_off(row):
            detail = {"email": row.email, "reason": row.reason}
            audit.record("suppression.removed_everywhere", actor=actor, subject=row, address=address, detail=detail)
