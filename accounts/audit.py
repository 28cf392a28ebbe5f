"""The audit log: what staff did and what bears on security, written in the transaction of the change it tells of.

Append-only is not a promise of this module but a trigger of the database (accounts/migrations/0001_initial.py).
"""

import getpass
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from accounts.models import AuditEntry, User
from relay_project.mail.text import clean
from relay_project.net.addresses import read_address

MAX_LABEL = 255  # characters, the width of AuditEntry.actor_label
COMMAND_LINE = "command line"  # who acts when a management command does: whoever may log in to the machine


def record(
    action: str,
    *,
    actor: User | None,
    subject: Model | None = None,
    project_id: int | None = None,
    address: str | None = None,
    detail: dict[str, Any] | None = None,
    actor_label: str = "",
) -> None:
    """Add one entry in the caller's transaction.

    `action` is `noun.verb_in_the_past` (`staff.granted`); `address` an IP address; `detail` JSON without secrets.
    `actor_label` names an actor that is no person (audit.COMMAND_LINE).
    """
    AuditEntry.objects.create(
        actor_id=actor.pk if actor else None,
        actor_label=clean(str(actor) if actor else actor_label, MAX_LABEL),
        action=action,
        subject_kind=subject._meta.model_name or "" if subject else "",
        subject_id=subject.pk if subject else None,
        project_id=project_id,
        address=address or None,
        detail=detail or {},
    )


def at_the_machine() -> str:
    """COMMAND_LINE and the machine's account that runs the command, as far as there is one: an `actor_label`."""
    try:
        return f"{COMMAND_LINE} ({getpass.getuser()})"
    except (KeyError, OSError):  # a container's uid without a name
        return COMMAND_LINE


def address_of(request: HttpRequest) -> str | None:
    """The client's address as TrustedProxies settled it (lesson S4); None when there is none, as on a Unix socket."""
    address = read_address(request.META.get("REMOTE_ADDR", ""))
    return None if address is None else str(address)


def actor_of(request: HttpRequest) -> User:
    """Who acts, in a view that lets only signed-in people in."""
    assert isinstance(request.user, User)
    return request.user
