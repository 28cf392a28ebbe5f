"""What people, keys and staff did in a project: its part of the audit log, as its members may read it.

Staff who act on a project are named as staff; where they sit and why they did it stays with staff.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.models import AuditEntry, User
from projects.models import Membership, Project
from projects.objects import timestamp

STAFFS_OWN = frozenset({"reason"})  # of an entry's detail: written for staff
PERSON = "user"  # the subject_kind of people
KEY_LABEL = "API key "  # how projects.access.label_of names a key

# What an action is called where people read it; an unknown one is shown by its own words.
WORDS = {
    "api_key.changed": "changed an API key",
    "api_key.created": "made an API key",
    "api_key.deleted": "deleted an API key",
    "api_key.disabled": "disabled an API key",
    "api_key.rotated": "rotated an API key",
    "content.viewed": "read the content of a mail",
    "dkim_key.added": "added a DKIM key",
    "dkim_key.dropped": "dropped a DKIM key",
    "domain.created": "added a domain",
    "domain.deleted": "deleted a domain",
    "domain.reinstated": "reinstated a domain",
    "domain.return_path_set": "changed a domain's return path",
    "domain.suspended": "suspended a domain",
    "invitation.accepted": "accepted an invitation",
    "invitation.created": "invited somebody",
    "invitation.sent_again": "sent an invitation again",
    "invitation.withdrawn": "withdrew an invitation",
    "member.added": "added a member",
    "member.changed": "changed a member's scopes",
    "mailbox.changed": "changed a mailbox",
    "mailbox.created": "made a mailbox",
    "mailbox.deleted": "deleted a mailbox",
    "mailbox.disabled": "disabled a mailbox",
    "mailbox.enabled": "enabled a mailbox",
    "mailbox.token_created": "made a mailbox's token",
    "mailbox.token_deleted": "deleted a mailbox's token",
    "member.left": "left the project",
    "member.removed": "removed a member",
    "project.archived": "archived the project",
    "project.content_days_set": "changed how long content is kept",
    "project.created": "founded the project",
    "project.limits_set": "changed the project's limits",
    "project.renamed": "renamed the project",
    "project.restored": "restored the project",
    "project.resumed": "let the project send again",
    "project.suspended": "suspended the project",
    "send.cancelled": "cancelled a send",
    "suppression.added": "suppressed an address",
    "suppression.removed": "removed a suppression",
    "suppressions.imported": "imported suppressions",
    "webhook.changed": "changed a webhook",
    "webhook.created": "made a webhook",
    "webhook.deleted": "deleted a webhook",
    "webhook.disabled": "disabled a webhook",
    "webhook.enabled": "enabled a webhook",
    "webhook.replayed": "had a webhook told again",
    "webhook.replay_stopped": "stopped what a webhook was told again",
    "webhook.secret_rotated": "rotated a webhook's secret",
    "webhook.sent_again": "had a delivery sent again",
    "webhook.tested": "sent a test to a webhook",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries; None: all. `action` is a whole one (`member.added`) or its noun (`member`)."""

    user_id: int | None = None
    api_key_id: int | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def entries_of(project: Project, wanted: Filter, limit: int, before_id: int | None = None) -> list[AuditEntry]:
    """The newest entries of a project that fit, at most `limit` with ids below `before_id`."""
    entries = AuditEntry.objects.filter(project_id=project.pk)
    if before_id is not None:
        entries = entries.filter(pk__lt=before_id)
    if wanted.user_id is not None:
        entries = entries.filter(actor_id=wanted.user_id)
    if wanted.api_key_id is not None:
        entries = entries.filter(actor_id=None, actor_label=f"{KEY_LABEL}{wanted.api_key_id}")
    if wanted.action:
        whole = "." in wanted.action
        entries = entries.filter(
            **{"action" if whole else "action__startswith": wanted.action + ("" if whole else ".")}
        )
    if wanted.since is not None:
        entries = entries.filter(at__gte=wanted.since)
    if wanted.until is not None:
        entries = entries.filter(at__lte=wanted.until)
    return list(entries.order_by("-id")[:limit])


def entry_objects(entries: Iterable[AuditEntry], project: Project) -> list[dict[str, Any]]:
    """The entries as the API shows them, in three more queries."""
    entries = list(entries)
    staff, names = staff_among(entries, project), _names_among(entries)
    return [_entry_object(entry, entry.actor_id in staff, names) for entry in entries]


def staff_among(entries: Iterable[AuditEntry], project: Project) -> set[int]:
    """The actors who are staff and belong to the project by nothing else."""
    actors = {entry.actor_id for entry in entries if entry.actor_id is not None}
    staff = set(User.objects.filter(pk__in=actors, is_staff=True).values_list("pk", flat=True))
    return staff - set(Membership.objects.filter(project=project, user__in=staff).values_list("user_id", flat=True))


def _names_among(entries: Iterable[AuditEntry]) -> dict[int, str]:
    """What the people are called whom something was done to."""
    people = {entry.subject_id or 0 for entry in entries if entry.subject_kind == PERSON}
    return {user.pk: str(user) for user in User.objects.filter(pk__in=people)}


def words_of(action: str) -> str:
    """An action in words."""
    return WORDS.get(action) or action.replace(".", " ").replace("_", " ")


def _entry_object(entry: AuditEntry, by_staff: bool, names: dict[int, str]) -> dict[str, Any]:
    subject: dict[str, Any] = {"kind": entry.subject_kind, "id": entry.subject_id, "name": None}
    if entry.subject_kind == PERSON and entry.subject_id is not None:
        subject["name"] = names.get(entry.subject_id)
    return {
        "id": entry.pk,
        "created_at": timestamp(entry.at),
        "action": entry.action,
        "text": words_of(entry.action),
        "actor": _actor_object(entry, by_staff),
        "subject": subject if entry.subject_kind else None,
        "address": None if by_staff else entry.address,
        "detail": {name: said for name, said in entry.detail.items() if not (by_staff and name in STAFFS_OWN)},
    }


def _actor_object(entry: AuditEntry, by_staff: bool) -> dict[str, Any]:
    """`kind`: person, staff, api_key, or relay itself (and whoever may log in to its machine)."""
    if entry.actor_id is not None:
        return {"kind": "staff" if by_staff else "person", "id": entry.actor_id, "name": entry.actor_label}
    number = entry.actor_label.removeprefix(KEY_LABEL)
    if number != entry.actor_label and number.isdigit():
        return {"kind": "api_key", "id": int(number), "name": entry.actor_label}
    return {"kind": "relay", "id": None, "name": entry.actor_label}
