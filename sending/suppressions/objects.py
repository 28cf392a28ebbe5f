"""The contract's Suppression as plain values: for JSON, and for events."""

from typing import Any

from projects.objects import timestamp
from sending.models import Suppression


def suppression_object(row: Suppression) -> dict[str, Any]:
    """Suppression; `list` and `expires_at` are ours."""
    return {"id": row.pk, "created_at": timestamp(row.created_at), **suppression_payload(row)}


def suppression_payload(row: Suppression) -> dict[str, Any]:
    """What an event tells of it, whose subject and time are the event's own."""
    return {
        "email": row.email,
        "reason": row.reason,
        "description": row.description,
        "list": row.list,
        "expires_at": timestamp(row.expires_at),
    }
