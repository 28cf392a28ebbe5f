"""What goes over the wire of the staff API on this floor."""

from typing import Any

from accounts.models import AuditEntry, StaffKey, User
from projects.models import Project
from projects.objects import timestamp
from projects.staff_keys import TOKEN_BYTES
from relay_project.web.schema import (
    answer,
    body,
    boolean,
    identifier,
    integer,
    listed,
    mapped,
    moment,
    nullable,
    string,
    text,
)

STAFF_KEY = answer(
    "StaffKey",
    {
        "id": identifier(),
        "created_at": moment(),
        "user_id": identifier("As whom it acts."),
        "name": string(),
        "is_read_only": boolean("Whether it opens GET alone."),
        "allowed_ips": listed(string()),
        "key": nullable(string("Only in the answer that makes it.")),
        "expires_at": nullable(moment()),
        "last_used_at": nullable(moment("To the minute.")),
    },
)
NEW_STAFF_KEY = body(
    "NewStaffKey",
    {
        "name": text(blank=False),
        "is_read_only": boolean("Opens GET alone; default: no."),
        "allowed_ips": listed(
            text(format="address-or-network"), "As those of API keys; empty: from anywhere.", maxItems=100
        ),
        "expires_at": integer("Unix seconds in the future; null: never."),
    },
    ["name"],
)
EXAMPLE_STAFF_KEY = {
    "id": 1,
    "created_at": 1795315071,
    "user_id": 2,
    "name": "Terraform",
    "is_read_only": False,
    "allowed_ips": ["192.0.2.0/24"],
    "key": "relay_staff_" + "5f" * TOKEN_BYTES,
    "expires_at": None,
    "last_used_at": None,
}
PERSON = answer(
    "Person",
    {
        "id": identifier(),
        "created_at": moment(),
        "name": string(),
        "email": string(),
        "login": nullable(string("Of a local account.")),
        "is_staff": boolean(),
        "is_active": boolean("Whether the person may sign in."),
        "last_login": nullable(moment()),
    },
)
PERSON_CHANGE = body(
    "PersonChange",
    {
        "is_staff": boolean("Grant or revoke."),
        "is_active": boolean("Off ends every session, and staff rights."),
        "reason": text("Kept in the audit log."),
    },
)
AUDIT_ENTRY = answer(
    "AuditEntry",
    {
        "id": identifier(),
        "at": moment(),
        "actor_id": nullable(identifier()),
        "actor": string(),
        "action": string(examples=["queue.paused"]),
        "subject_kind": string(examples=["queue"]),
        "subject_id": nullable(identifier()),
        "project_id": nullable(identifier()),
        "address": nullable(string()),
        "detail": mapped({}),
    },
)
STAFF_PROJECT = answer(
    "StaffProject",
    {
        "id": identifier(),
        "user_id": nullable(identifier("Of its first member.")),
        "name": string(),
        "created_at": moment(),
        "updated_at": moment("When it was made; changes are in the audit log."),
        "organization_id": integer("An installation is one organisation: 0."),
        "send_type": string(),
        "is_system": boolean(),
    },
)
ORGANISATION = answer(
    "StaffOrganization",
    {"id": integer(), "name": string(), "billing_email": nullable(string()), "billing_address": nullable(string())},
)
PROJECT_NAME = answer("ProjectName", {"id": identifier(), "name": string()})
INSTANCE = answer(
    "StaffInit",
    {
        "config": answer(
            "StaffConfig",
            {
                "deployment": string(),
                "app_version": string(),
                "instance": string("The console's address."),
                "blacklists": listed(mapped({})),
                "user": answer(
                    "StaffUser",
                    {"id": identifier(), "name": string(), "email": string(), "picture_url": nullable(string())},
                ),
            },
        ),
        "instance": answer(
            "Instance",
            {"domain": string(), "dkim_host": nullable(string()), "dkim_txt_value": nullable(string())},
        ),
    },
)

ONE_ORGANISATION: dict[str, Any] = {"id": 0, "name": "Default", "billing_email": None, "billing_address": None}


def staff_key_object(key: StaffKey, token: str | None = None) -> dict[str, Any]:
    """StaffKey; `token` only in the answer that makes it."""
    return {
        "id": key.pk,
        "created_at": timestamp(key.created_at),
        "user_id": key.user_id,
        "name": key.name,
        "is_read_only": key.is_read_only,
        "allowed_ips": list(key.allowed_ips),
        "key": token,
        "expires_at": timestamp(key.expires_at),
        "last_used_at": timestamp(key.last_used_at),
    }


def person_object(person: User) -> dict[str, Any]:
    """Person."""
    return {
        "id": person.pk,
        "created_at": timestamp(person.created_at),
        "name": person.name,
        "email": person.email,
        "login": person.login,
        "is_staff": person.is_staff,
        "is_active": person.is_active,
        "last_login": timestamp(person.last_login),
    }


def audit_object(entry: AuditEntry) -> dict[str, Any]:
    """AuditEntry."""
    return {
        "id": entry.pk,
        "at": timestamp(entry.at),
        "actor_id": entry.actor_id,
        "actor": entry.actor_label,
        "action": entry.action,
        "subject_kind": entry.subject_kind,
        "subject_id": entry.subject_id,
        "project_id": entry.project_id,
        "address": entry.address,
        "detail": entry.detail,
    }


def staff_project_object(project: Project, user_id: int | None) -> dict[str, Any]:
    """StaffProject, in the contract's shape; `is_system` is ours."""
    created = timestamp(project.created_at)
    return {
        "id": project.pk,
        "user_id": user_id,
        "name": project.name,
        "created_at": created,
        "updated_at": created,
        "organization_id": ONE_ORGANISATION["id"],
        "send_type": str(project.send_type),
        "is_system": project.is_system,
    }
