"""Mailboxes and their tokens as plain values for JSON."""

from typing import Any

from projects.objects import timestamp
from webhooks.models.mailbox import Mailbox, MailboxToken


def mailbox_object(mailbox: Mailbox) -> dict[str, Any]:
    """Mailbox."""
    return {
        "id": mailbox.pk,
        "name": mailbox.name,
        "description": mailbox.description,
        "events": list(mailbox.events),
        "tags": list(mailbox.tags),
        "domains": list(mailbox.domains),
        "is_enabled": mailbox.is_enabled,
        "created_at": timestamp(mailbox.created_at),
    }


def token_object(token: MailboxToken, text: str | None = None) -> dict[str, Any]:
    """MailboxToken; `text` only in the answer that makes it."""
    return {
        "id": token.pk,
        "kind": str(token.kind),
        "name": token.name,
        "token": text,
        "created_at": timestamp(token.created_at),
    }
