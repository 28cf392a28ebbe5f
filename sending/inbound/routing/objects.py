"""Receiving domains, routes and received mail as plain values: for JSON, and for events."""

from typing import Any

from projects.objects import timestamp
from relay_project.mail.received import Attachment, Received, Written
from relay_project.mail.reports.message import MAX_TEXT
from sending.inbound.routing.dns import advice
from sending.models import InboundRoute, ReceivedMail, ReceivingDomain

EVENT_TEXT = 50_000  # characters of each body in an event; the API has the rest
EVENT_ADDRESSES = 50  # of each field in an event


def receiving_domain_object(row: ReceivingDomain) -> dict[str, Any]:
    """A domain, with the record to publish. `is_mx_found`: null until somebody looked."""
    record = advice(row)
    return {
        "id": row.pk,
        "created_at": timestamp(row.created_at),
        "domain": row.domain,
        "mx": {"type": "MX", "host": record.host, "value": record.value},
        "mx_checked_at": timestamp(row.mx_checked_at),
        "is_mx_found": None if row.mx_checked_at is None else not row.mx_error_message,
        "mx_error_message": row.mx_error_message or None,
    }


def route_object(route: InboundRoute) -> dict[str, Any]:
    """A route; `domain` must have been read with it."""
    return {
        "id": route.pk,
        "created_at": timestamp(route.created_at),
        "domain_id": route.domain_id,
        "address": str(route),
        "priority": route.priority,
        "action": str(route.action),
        "forward_to": list(route.forward_to or ()),
        "description": route.description,
        "is_enabled": route.is_enabled,
    }


def received_object(row: ReceivedMail) -> dict[str, Any]:
    """What a list shows."""
    return {
        "id": row.pk,
        "created_at": timestamp(row.received_at),
        "route_id": row.route_id or None,
        "envelope": {"from": row.mail_from, "to": list(row.recipients)},
        "from": row.from_address,
        "subject": row.subject,
        "message_id": row.message_id or None,
        "size_bytes": row.size_bytes,
        "attachment_count": row.attachment_count,
        "authentication": row.authentication or None,
        "hints": list(row.hints),
        "forward": forward_object(row),
    }


def forward_object(row: ReceivedMail) -> dict[str, Any] | None:
    """Where a mail was passed on; None for one that was not to be. Both ids are of sends."""
    if row.forward_to is None:
        return None
    return {
        "to": list(row.forward_to),
        "send_id": row.forward_send_id,
        "error": row.forward_error or None,
        "returns_send_id": row.returns_send_id,
    }


def message_object(message: Received, most: int = MAX_TEXT, addresses: int | None = None) -> dict[str, Any]:
    """What a mail says; bodies are cut at `most` characters, and fields of addresses at so many."""
    return {
        "from": _written(message.from_, addresses),
        "to": _written(message.to, addresses),
        "cc": _written(message.cc, addresses),
        "reply_to": _written(message.reply_to, addresses),
        "subject": message.subject,
        "date": message.date,
        "message_id": message.message_id or None,
        "in_reply_to": message.in_reply_to or None,
        "references": list(message.references[-EVENT_ADDRESSES:]),
        "auto_submitted": message.auto_submitted or None,
        "text": _cut(message.text, most),
        "is_text_cut": len(message.text or "") >= most,
        "html": _cut(message.html, most),
        "is_html_cut": len(message.html or "") >= most,
        "attachments": [attachment_object(one) for one in message.attachments],
    }


def attachment_object(attachment: Attachment) -> dict[str, Any]:
    """A file, without its octets; `id` counts from 1."""
    return {
        "id": attachment.number,
        "name": attachment.name,
        "type": attachment.type,
        "size_bytes": attachment.size,
        "content_id": attachment.content_id or None,
        "is_inline": attachment.is_inline,
    }


def event_payload(row: ReceivedMail, message: Received) -> dict[str, Any]:
    """`inbound.received`."""
    return {"inbound": {**received_object(row), "message": message_object(message, EVENT_TEXT, EVENT_ADDRESSES)}}


def _written(addresses: tuple[Written, ...], most: int | None) -> list[dict[str, Any]]:
    return [{"address": one.address, "name": one.name or None} for one in addresses[:most]]


def _cut(text: str | None, most: int) -> str | None:
    return None if text is None else text[:most]
