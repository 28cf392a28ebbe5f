"""What receivers are told of each kind of event: an example of its `payload`, for the documentation and for test calls."""

from types import MappingProxyType
from typing import Any

from projects.events import EventKind

SEND_ID, RECIPIENT_ID, ATTEMPT_ID = 890792257310765, 890792308609081, 890792308822075
AT = 1795315070

_ADDRESS = "bob@inbox.test"
_DOMAIN: dict[str, Any] = {
    "id": 2,
    "created_at": 1795310000,
    "domain": "demo.test",
    "status": "active",
    "status_changed_at": AT,
    "dkim_selector": "rly20261122023750bda0a930",
    "dkim_host": "rly20261122023750bda0a930._domainkey.demo.test",
    "dkim_public_key": "-----BEGIN PUBLIC KEY-----\n…",
    "dkim_txt_value": "v=DKIM1; k=rsa; p=MIIB…",
    "dkim_checked_at": AT,
    "dkim_error_message": None,
    "return_path": None,
}
_DKIM_KEY: dict[str, Any] = {
    "id": 7,
    "state": "active",
    "algorithm": "rsa",
    "is_current": True,
    "selector": "march",
    "dkim_host": "march._domainkey.demo.test",
    "dkim_txt_value": "v=DKIM1; k=rsa; p=MIIB…",
    "created_at": 1795310000,
    "activated_at": AT,
    "retires_at": None,
    "checked_at": AT,
    "error_message": None,
}
_RETURN_PATH = {"host": "bounces.demo.test", "status": "active", "checked_at": AT, "error_message": None}
_PENDING_DOMAIN = {**_DOMAIN, "status": "pending", "dkim_checked_at": None}
_PROJECT: dict[str, Any] = {
    "id": 3,
    "created_at": 1795310000,
    "name": "Shop",
    "send_type": "transactional",
    "content_days": 30,
    "status": "active",
    "suspend_reason": None,
}
_API_KEY: dict[str, Any] = {
    "id": 5,
    "name": "Shop server",
    "scopes": ["sends.read", "sends.send"],
    "role": None,
    "allowed_ips": ["192.0.2.7"],
    "key": None,
    "created_at": AT,
    "is_enabled": True,
    "is_test": False,
    "last_accessed_at": None,
    "expires_at": None,
}
_SUPPRESSION: dict[str, Any] = {
    "id": 4,
    "created_at": AT,
    "email": "missing@inbox.test",
    "reason": "bounce",
    "description": "550 5.1.1 No such mailbox here",
    "list": None,
    "expires_at": None,
}
_INCIDENT: dict[str, Any] = {"source_ip_id": 3, "site": "gmail", "cause": "rate", "rule": "rate-code"}
_INBOUND: dict[str, Any] = {
    "id": 890792308609081,
    "created_at": AT,
    "route_id": 9,
    "envelope": {"from": "dora@example.com", "to": ["support+4711@in.shop.example"]},
    "from": "dora@example.com",
    "subject": "Re: Your order",
    "message_id": "a1@example.com",
    "size_bytes": 20481,
    "attachment_count": 0,
    "authentication": {"spf": {"result": "pass"}, "dkim": [], "dmarc": {"result": "pass"}, "arc": {"result": "none"}},
    "hints": [],
    "forward": None,
    "message": {"subject": "Re: Your order", "text": "It came broken.\n", "is_text_cut": False, "attachments": []},
}


def _recipient(status: str, address: str = _ADDRESS, try_count: int = 1) -> dict[str, Any]:
    return {
        "id": RECIPIENT_ID,
        "type": "to",
        "address": address,
        "name": "",
        "status": status,
        "try_count": try_count,
    }


def _send(status: str, address: str = _ADDRESS, try_count: int = 1) -> dict[str, Any]:
    waits = status in ("queued", "deferred")
    return {
        "id": SEND_ID,
        "uuid": "01a20122-a90d-702d-9de8-efa6f39926e0",
        "created_at": AT,
        "from_address": "hello@demo.test",
        "from_name": "Demo",
        "subject": "Order 1001",
        "size_bytes": 2048,
        "tags": ["order"],
        "metadata": {"order": "1001"},
        "is_test": False,
        "forwarded_from": None,
        "queued": waits,
        "send_after": AT + (900 if status == "deferred" else 0),
        "recipients": [_recipient(status, address, try_count)],
        "attempts": [],
        "feedback": [],
    }


def _attempt(status: str, code: int, enhanced: str, message: str, category: str) -> dict[str, Any]:
    return {
        "id": ATTEMPT_ID,
        "created_at": AT + 1,
        "status": status,
        "try_count": 1,
        "domain": "inbox.test",
        "resolved_mx_hosts": ["mx.inbox.test"],
        "responded_mx_host": "mx.inbox.test",
        "smtp_conversations": {},
        "tls": None,
        "duration_ms": 41,
        "recipients": [
            {
                "id": 890792308822099,
                "created_at": AT + 1,
                "recipient_id": RECIPIENT_ID,
                "recipient_status": status,
                "smtp_code": code,
                "smtp_enhanced_code": enhanced,
                "smtp_message": message,
                "is_suppressed": False,
                "category": category,
                "rule": "",
            }
        ],
    }


def _tried(status: str, code: int, enhanced: str, message: str, category: str) -> dict[str, Any]:
    return {
        "send": _send(status),
        "recipient": _recipient(status),
        "attempt": _attempt(status, code, enhanced, message, category),
    }


def _about(status: str, address: str = _ADDRESS, try_count: int = 1, **rest: Any) -> dict[str, Any]:
    return {
        "send": _send(status, address, try_count),
        "recipient": _recipient(status, address, try_count),
        **rest,
    }


EXAMPLES: MappingProxyType[EventKind, dict[str, Any]] = MappingProxyType(
    {
        EventKind.QUEUED: {"send": _send("queued", try_count=0), "send_after": AT},
        EventKind.ACCEPTED: _tried("accepted", 250, "2.0.0", "OK: queued", ""),
        EventKind.DEFERRED: _tried("deferred", 451, "4.7.1", "Greylisted, please try again later", "temporary"),
        EventKind.FAILED: _tried("failed", 451, "4.3.0", "A temporary failure of the receiving system", "temporary"),
        EventKind.BOUNCED: _tried("bounced", 550, "5.1.1", "No such mailbox here", "recipient"),
        EventKind.COMPLAINED: _about(
            "complained",
            complaint={"text": "Reported as abuse by Yahoo!-Mail-Feedback/2.0", "feedback_type": "abuse"},
        ),
        EventKind.SUPPRESSED: _about("suppressed", "missing@inbox.test", 0, suppression=_SUPPRESSION),
        EventKind.CANCELLED: _about("cancelled", try_count=0, reason="the campaign had a wrong link"),
        EventKind.DELAYED: _about(
            "deferred",
            try_count=4,
            delay={"source": "waiting", "text": "It has waited for more than 4 hours.", "status": None},
        ),
        EventKind.SIMULATED: _about("bounced", "missing@inbox.test"),
        EventKind.UNSUBSCRIBED: _about("accepted", list="news", suppression_id=4),
        EventKind.DOMAIN_CREATED: {"domain": _PENDING_DOMAIN},
        EventKind.DOMAIN_DELETED: {"domain": _DOMAIN},
        EventKind.DOMAIN_STATUS_CHANGED: {
            "domain": _DOMAIN,
            "old_status": "pending",
            "new_status": "active",
            "dkim_result": {"verified": True, "checked_at": AT, "error_message": None},
        },
        EventKind.DOMAIN_DKIM_KEY_CHANGED: {
            "domain": _DOMAIN,
            "dkim_key": _DKIM_KEY,
            "old_state": "pending",
            "new_state": "active",
        },
        EventKind.DOMAIN_RETURN_PATH_CHANGED: {
            "domain": {**_DOMAIN, "return_path": _RETURN_PATH},
            "old_status": "pending",
            "new_status": "active",
        },
        EventKind.SUPPRESSION_CREATED: {"suppression": _SUPPRESSION},
        EventKind.SUPPRESSION_DELETED: {"suppression": _SUPPRESSION},
        EventKind.SUPPRESSION_IMPORTED: {"added": 9812, "extended": 3},
        EventKind.INBOUND_RECEIVED: {"inbound": _INBOUND},
        EventKind.INBOUND_FORWARDED: {
            "inbound": {name: value for name, value in _INBOUND.items() if name != "message"}
            | {"forward": {"to": ["team@other.example"], "send_id": SEND_ID, "error": None, "returns_send_id": None}}
        },
        EventKind.PROJECT_SUSPENDED: {
            "project": {**_PROJECT, "status": "suspended", "suspend_reason": "A leaked key sent spam"}
        },
        EventKind.PROJECT_RESUMED: {"project": _PROJECT},
        EventKind.PROJECT_ARCHIVED: {"project": {**_PROJECT, "status": "archived"}},
        EventKind.PROJECT_RESTORED: {"project": _PROJECT},
        EventKind.LIMIT_REACHED: {"limit": "sends_per_hour", "count": 10000, "resets_at": 1795316400},
        EventKind.API_KEY_CREATED: {"api_key": _API_KEY},
        EventKind.API_KEY_ROTATED: {"api_key": _API_KEY, "former_until": AT + 86_400},
        EventKind.API_KEY_REVOKED: {"api_key": {**_API_KEY, "is_enabled": False}, "reason": "deleted"},
        EventKind.WEBHOOK_DISABLED: {
            "webhook": {"id": 1, "url": "https://shop.example/relay", "description": "Order status"},
            "reason": "failing",
        },
        EventKind.INCIDENT_OPENED: {**_INCIDENT, "reply": "421 4.7.28 Too much mail from your address"},
        EventKind.INCIDENT_CLOSED: {**_INCIDENT, "note": "Sent slower for a day"},
    }
)
