"""EMAIL_BACKEND: notices of the product itself go the way of all mail, as sends of the system project."""

from collections.abc import Sequence
from email.mime.base import MIMEBase
from email.utils import parseaddr

from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone

from projects.setup import ensure_instance
from relay_project.mail.headers import FORBIDDEN_HEADERS
from relay_project.mail.mime import Attachment, NamedAddress
from sending.accept.accept import accept
from sending.accept.request import Refused, RequestedRecipient, SendRequest
from sending.models import RecipientType


class SystemProject(BaseEmailBackend):
    """Accepts Django's messages for the system project; they leave after the commit, signed like any other."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Accept each; returns how many. Raises Refused unless fail_silently."""
        project = ensure_instance().project
        accepted = 0
        for message in email_messages:
            try:
                accept(project, to_request(message), timezone.now())
                accepted += 1
            except Refused:
                if not self.fail_silently:
                    raise
        return accepted


def to_request(message: EmailMessage) -> SendRequest:
    """Django's message as ours."""
    name, address = parseaddr(message.from_email)
    html = None
    if isinstance(message, EmailMultiAlternatives):
        html = next((str(content) for content, mimetype in message.alternatives if mimetype == "text/html"), None)
    is_html = message.content_subtype == "html"
    return SendRequest(
        from_=NamedAddress(address, name or None),
        recipients=tuple(
            RequestedRecipient(kind, parseaddr(entry)[1], parseaddr(entry)[0])
            for kind, entries in (
                (RecipientType.TO, message.to),
                (RecipientType.CC, message.cc),
                (RecipientType.BCC, message.bcc),
            )
            for entry in entries
        ),
        subject=str(message.subject),
        body_text=None if is_html else str(message.body),
        body_html=str(message.body) if is_html else html,
        headers=_headers(message),
        attachments=tuple(map(_attachment, message.attachments)),
    )


def _headers(message: EmailMessage) -> tuple[tuple[str, str], ...]:
    headers = {name: str(value) for name, value in message.extra_headers.items()}
    if message.reply_to and not any(name.lower() == "reply-to" for name in headers):
        headers["Reply-To"] = ", ".join(map(str, message.reply_to))
    return tuple((name, value) for name, value in headers.items() if name.lower() not in FORBIDDEN_HEADERS)


def _attachment(item: tuple[str | None, str | bytes, str | None] | MIMEBase) -> Attachment:
    if isinstance(item, MIMEBase):
        body = item.get_payload(decode=True)
        return Attachment(body if isinstance(body, bytes) else b"", item.get_filename(), item.get_content_type())
    name, content, content_type = item
    return Attachment(content.encode() if isinstance(content, str) else content, name, content_type)
