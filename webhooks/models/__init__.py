"""Tables of this floor: webhooks with what they are told, and mailboxes."""

from webhooks.models.mailbox import Mailbox, MailboxEvent, MailboxItem, MailboxToken, TokenKind
from webhooks.models.webhook import (
    DeliveryKind,
    DeliveryStatus,
    DisabledReason,
    Webhook,
    WebhookDelivery,
    WebhookLane,
    WebhookReplay,
    WebhookWaiting,
)

__all__ = [
    "DeliveryKind",
    "DeliveryStatus",
    "DisabledReason",
    "Mailbox",
    "MailboxEvent",
    "MailboxItem",
    "MailboxToken",
    "TokenKind",
    "Webhook",
    "WebhookDelivery",
    "WebhookLane",
    "WebhookReplay",
    "WebhookWaiting",
]
