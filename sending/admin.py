"""Staff admin: sends and what became of them. Bodies are not shown: the mail is the customer's."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ips.models import HeldSite, SourceIp
from projects.models import Project
from queues.models import Queue
from relay_project.db.ids import id_soon
from relay_project.mail.classify import source_of
from relay_project.web.staff import Facts, Happened, Link, column, link_to, written_with
from sending.backlog.why import why
from sending.explain import Reason
from sending.inbound_admin import InboundMailAdmin, UnreadMailAdmin
from sending.models import (
    Attempt,
    AttemptRecipient,
    Content,
    ForgottenDay,
    IdempotencyRecord,
    Recipient,
    SandboxMessage,
    Send,
    Signature,
    SoftBounce,
    Waiting,
)
from sending.order_admin import MeasurementAdmin, OperationAdmin
from sending.routing_admin import InboundRouteAdmin, ReceivedMailAdmin, ReceivingDomainAdmin, UnexaminedMailAdmin
from sending.statistics_admin import DayCountAdmin, HourCountAdmin, ReaderPositionAdmin, SearchTextAdmin
from sending.suppression_admin import SuppressionAdmin

__all__ = [  # registered there
    "DayCountAdmin",
    "HourCountAdmin",
    "InboundMailAdmin",
    "InboundRouteAdmin",
    "MeasurementAdmin",
    "OperationAdmin",
    "ReaderPositionAdmin",
    "ReceivedMailAdmin",
    "ReceivingDomainAdmin",
    "SearchTextAdmin",
    "SuppressionAdmin",
    "UnexaminedMailAdmin",
    "UnreadMailAdmin",
]

PROJECT = Link("project", Project)
QUEUE = Link("queue", Queue)
SOURCE_IP = Link("source_ip", SourceIp, "address")
SEND = Link("send", Send, "subject")

STATUS_LABELS = {
    "queued": "info",
    "deferred": "warning",
    "accepted": "success",
    "partial": "warning",
    "bounced": "danger",
    "failed": "danger",
    "complained": "danger",
}
MAX_ROWS = 100  # in a table on a row's page; a send has at most 1000 recipients


def _table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> SafeString:
    head = format_html_join("", "<th>{}</th>", ((header,) for header in headers))
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    return format_html('<table class="relay-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, body)


@admin.register(Send)
class SendAdmin(Happened):
    """Accepted messages."""

    ids = ("pk",)
    words = ("from_address",)
    computed = ("when", "recipients", "attempts")
    list_display = ("when", "subject", "from_address", PROJECT, QUEUE, "size_bytes", "is_test")
    list_display_links = ("when", "subject")
    search_help_text = "Id, UUID or exact From address"

    @column("recipients")
    def recipients(self, send: Send) -> SafeString:
        """Who, and where each stands."""
        found = Recipient.objects.filter(send_id=send.pk, **written_with(send.pk)).order_by("position")[:MAX_ROWS]
        rows = list(found)
        reasons = why(send, rows, timezone.now())
        return _table(
            ("address", "type", "status", "tries", "why"),
            (
                (
                    link_to(Recipient, row.pk, row.address),
                    row.type,
                    format_html('<span class="relay-whole">{}</span>', row.status),
                    row.try_count,
                    _told_why(reasons[row.pk]),
                )
                for row in rows
            ),
        )

    @column("attempts")
    def attempts(self, send: Send) -> SafeString:
        """What was tried."""
        rows = Attempt.objects.filter(send_id=send.pk, pk__gte=send.pk, pk__lt=id_soon()).order_by("pk")[:MAX_ROWS]
        return _table(
            ("attempt", "domain", "host", "status", "ms"),
            (
                (link_to(Attempt, row.pk), row.domain, row.responded_mx_host or "–", row.status, row.duration_ms)
                for row in rows
            ),
        )


def _told_why(reason: Reason) -> str:
    return " ".join(filter(None, (reason.text, reason.detail)))


def _why(recipient: Recipient) -> str:
    send = Send.objects.filter(pk=recipient.send_id).first()
    return _told_why(why(send, [recipient], timezone.now())[recipient.pk]) if send else "Its send is gone."


@admin.register(Recipient)
class RecipientAdmin(Happened):
    """One address of a send."""

    words = ("address",)
    computed = ("when", "why_it_waits")
    list_display = ("when", "address", "state", "type", SEND, PROJECT, "try_count")
    list_display_links = ("when", "address")
    list_filter = (*Happened.list_filter, "status")
    search_help_text = "Id, UUID of a send, or exact address"

    @column("status", label=STATUS_LABELS)
    def state(self, recipient: Recipient) -> str:
        """Where it stands."""
        return str(recipient.status)

    @column("why")
    def why_it_waits(self, recipient: Recipient) -> str:
        """What it waits for, and until when, or how it ended."""
        return _why(recipient)

    def belongs_to(self, subject: int) -> Q:
        """The recipient, or the recipients of that send."""
        return Q(pk=subject) | Q(send_id=subject, **written_with(subject))


@admin.register(Attempt)
class AttemptAdmin(Happened):
    """What was tried, with the whole conversation."""

    ids = ("pk", "send_id")
    words = ("domain", "site", "responded_mx_host")
    secret = ("smtp_conversations",)  # shown as a transcript
    links = (PROJECT, QUEUE)
    computed = ("when", "told", "transcript")
    list_display = (
        "when",
        "state",
        "domain",
        "responded_mx_host",
        SOURCE_IP,
        SEND,
        "try_count",
        "duration_ms",
    )
    list_filter = (*Happened.list_filter, "status", "is_lost")
    search_help_text = "Id, UUID of a send, or exact domain, site or host"

    @column("status", label=STATUS_LABELS)
    def state(self, attempt: Attempt) -> str:
        """How it ended."""
        return str(attempt.status)

    @column("recipients")
    def told(self, attempt: Attempt) -> SafeString:
        """What each recipient was told, and the rule that decided."""
        found = AttemptRecipient.objects.filter(attempt_id=attempt.pk, pk__gte=attempt.pk, pk__lt=id_soon())
        found = found.order_by("pk")[:MAX_ROWS]
        people = Recipient.objects.filter(send_id=attempt.send_id, **written_with(attempt.send_id))
        addresses = dict(people.values_list("pk", "address"))
        return _table(("recipient", "status", "code", "reply", "rule"), (_told(row, addresses) for row in found))

    @column("conversation")
    def transcript(self, attempt: Attempt) -> str | SafeString:
        """Every step with its time, command and reply."""
        conversations: dict[str, Any] = attempt.smtp_conversations or {}
        parts = [
            format_html("<p><strong>{}</strong> {}</p>{}", host, found.get("network_error") or "", _steps(found))
            for host, found in conversations.items()
        ]
        return format_html_join("", "{}", ((part,) for part in parts)) if parts else attempt.network_error or "–"


def _told(row: AttemptRecipient, addresses: dict[int, str]) -> Iterable[object]:
    who = link_to(Recipient, row.recipient_id, addresses.get(row.recipient_id))
    code = " ".join(filter(None, (str(row.smtp_code or "–"), row.smtp_enhanced_code)))
    status = format_html('<span class="relay-whole">{}</span>', row.recipient_status)
    return who, status, code, row.smtp_message, _rule(row.rule)


def _rule(name: str) -> str | SafeString:
    """The row of the table that decided; our own decisions have none."""
    if not source_of(name):
        return name
    return format_html('<a href="{}#{}">{}</a>', reverse("admin:bounce_rules_changelist"), name, name)


def _steps(conversation: dict[str, Any]) -> SafeString:
    shown = ("name", "duration_ms", "command", "reply_code", "reply_text")
    steps = conversation.get("steps", ())
    rows = ((step.get(key) if step.get(key) is not None else "" for key in shown) for step in steps)
    return _table(("step", "ms", "command", "code", "reply"), rows)


@admin.register(AttemptRecipient)
class AttemptRecipientAdmin(Happened):
    """What one recipient was told in one attempt."""

    ids = ("pk", "attempt_id", "send_id")
    words = ("rule", "smtp_enhanced_code")
    list_display = (
        "when",
        "state",
        Link("recipient", Recipient, "address"),
        Link("attempt", Attempt, "domain"),
        "smtp_code",
        "smtp_enhanced_code",
        "rule",
        "smtp_message",
    )
    list_filter = (*Happened.list_filter, "recipient_status")
    search_help_text = "Id, UUID of a send, exact rule or enhanced status"

    @column("status", label=STATUS_LABELS)
    def state(self, row: AttemptRecipient) -> str:
        """Where the recipient stood afterwards."""
        return str(row.recipient_status)


@admin.register(Content)
class ContentAdmin(Happened):
    """How much was given, not what: sizes and the kinds of attachments."""

    secret = ("body_html", "body_text", "headers", "attachments", "attachment_bodies", "raw")
    computed = ("when", "parts")
    list_display = ("when", "id", PROJECT)
    search_help_text = "Id"

    @column("parts")
    def parts(self, content: Content) -> SafeString:
        """Sizes in characters or octets."""
        bodies = [("text", content.body_text), ("html", content.body_html)]
        rows: list[tuple[str, object]] = [
            (kind, f"{len(body)} characters") for kind, body in bodies if body is not None
        ]
        for described, data in zip(content.attachments, content.attachment_bodies, strict=False):
            rows.append((described.get("content_type") or "attachment", f"{len(data)} octets"))
        if content.raw is not None:
            rows.append(("the customer's own MIME", f"{len(content.raw)} octets"))
        return _table(("part", "size"), rows)


@admin.register(Signature)
class SignatureAdmin(Facts):
    """That a send was signed; the lines stand in its raw form."""

    secret = ("header_lines",)
    list_display = ("send_id",)
    ordering = ("-send_id",)
    search_fields = ("=send_id",)
    search_help_text = "Id of a send"


@admin.register(Waiting)
class WaitingAdmin(Facts):
    """What waits: the ledger."""

    list_display = (
        Link("recipient", Recipient, "address"),
        SEND,
        PROJECT,
        QUEUE,
        "state",
        "due_at",
        "tries",
        Link("held_site", HeldSite, "reason"),
    )
    list_display_links = ("due_at",)
    computed = ("why_it_waits",)
    ordering = ("recipient_id",)
    search_fields = ("=send_id", "=recipient_id")
    search_help_text = "Id of a send or recipient"

    @column("state", label={"due": "info", "in flight": "success", "later": "warning", "held": "warning"})
    def state(self, row: Waiting) -> str:
        """In which of the ledger's places it is."""
        return "in flight" if row.attempt_id else ("due", "later", "held")[row.phase]

    @column("why")
    def why_it_waits(self, row: Waiting) -> str:
        """What it waits for, and until when."""
        recipient = Recipient.objects.filter(pk=row.recipient_id).first()
        return _why(recipient) if recipient else "Its recipient is gone."


@admin.register(SoftBounce)
class SoftBounceAdmin(Facts):
    """Addresses that were undeliverable lately; enough days of it suppress them."""

    list_display = ("id", "email", PROJECT, "number", "days", "last_at")
    list_display_links = ("id", "email")
    search_fields = ("email__exact",)
    search_help_text = "Exact address in lower case"

    @column("count")
    def number(self, row: SoftBounce) -> int:
        """Days within the window, at its last mail."""
        return len(row.days)


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(Facts):
    """Idempotency keys that were used."""

    secret = ("answer",)
    list_display = ("id", "key", PROJECT, "status_code", "created_at")
    list_display_links = ("id", "key")
    ordering = ("-id",)


@admin.register(SandboxMessage)
class SandboxMessageAdmin(Facts):
    """What the sandbox received; the console shows the mail itself."""

    secret = ("data",)
    list_display = ("received_at", "subject", "reverse_path", PROJECT, SEND, "is_tls")
    list_display_links = ("received_at", "subject")
    ordering = ("-id",)


@admin.register(ForgottenDay)
class ForgottenDayAdmin(Facts):
    """Days whose content left early, because their project keeps it for less."""

    list_display = ("day", PROJECT, "kept_back", "looked_at")
    list_display_links = ("day",)
