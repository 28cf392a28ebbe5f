"""Staff admin: mail that came in, what became of it, and its source for whoever has to find out why."""

from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts import audit
from projects.models import Project
from relay_project.mail.text import clean
from relay_project.web.staff import Facts, Happened, Link, column, confirmed, link_to
from sending.inbound.again import is_read, read_again
from sending.models import Attempt, InboundMail, Recipient, Send, UnreadMail
from sending.parser_page import parser_page

MAX_SHOWN = 256 * 1024  # characters of a source that a page shows
MAX_LOCAL = 24  # characters of a local part that a list shows
STATE_LABELS = {
    "waiting": "info",
    "applied": "success",
    "noted": "success",
    "handed on": "success",
    "unmatched": "warning",
    "forged": "danger",
    "trouble": "danger",
}


@admin.register(InboundMail)
class InboundMailAdmin(Happened):
    """Reports and other mail that came in without a login."""

    ids = ("pk", "send_id")
    words = ("mail_from", "peer")
    secret = ("octets", "findings")  # shown on a page of its own, and as a table
    links = (Link("attempt", Attempt, "domain"),)
    computed = ("when", "what_followed", "source")
    list_display = (
        "when",
        "standing",
        "kind",
        Link("send", Send, "subject"),
        "recipient",
        "trouble",
        "sender",
        "peer",
        Link("project", Project),
    )
    list_filter = (*Happened.list_filter, "state", "kind", "correlation")
    search_help_text = "Id, UUID of a send, or exact peer or sender"
    actions_detail = ("read_it_again",)

    @column("state", label=STATE_LABELS)
    def standing(self, mail: InboundMail) -> str:
        """What became of it."""
        return str(mail.state)

    @column("sender")
    def sender(self, mail: InboundMail) -> str:
        """Its reverse path."""
        return mail.mail_from or "<>"

    @column("recipient")
    def recipient(self, mail: InboundMail) -> str:
        """The first, and how many more."""
        more = f" and {len(mail.recipients) - 1} more" if len(mail.recipients) > 1 else ""
        return f"{_short(mail.recipients[0])}{more}" if mail.recipients else "–"

    @column("what followed")
    def what_followed(self, mail: InboundMail) -> str | SafeString:
        """What it says of each recipient."""
        if not mail.findings:
            return "–"
        shown = ("address", "action", "class", "status", "reason", "outcome")
        rows = format_html_join(
            "",
            "<tr>{}<td>{}</td></tr>",
            (
                (
                    format_html_join("", "<td>{}</td>", ((found.get(key, ""),) for key in shown)),
                    link_to(Recipient, found.get("recipient_id"), found.get("recipient")),
                )
                for found in mail.findings
            ),
        )
        head = format_html_join("", "<th>{}</th>", ((name,) for name in (*shown, "recipient of ours")))
        return format_html('<table class="relay-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, rows)

    @column("source")
    def source(self, mail: InboundMail) -> SafeString:
        """Where it can be read."""
        url = reverse("admin:sending_inboundmail_source", args=[mail.pk])
        return format_html('<a href="{}">Show the mail as it came</a> ({} octets)', url, mail.size_bytes)

    @confirmed(
        "Read again",
        question="{}: give it back to the reader? What it changed already is not changed twice.",
        icon="refresh",
        fits=is_read,
    )
    def read_it_again(self, request: HttpRequest, mail: InboundMail, data: dict[str, Any]) -> str:
        """After a repair, or a new version."""
        done = read_again(mail, actor=audit.actor_of(request), address=audit.address_of(request))
        return "The reader takes it within a second." if done else "It waits for the reader already."

    def get_urls(self) -> list[URLPattern]:
        """The source has a page of its own, and so has the parser."""
        view = self.admin_site.admin_view(self.source_page)
        page = path("<int:mail_id>/source/", view, name="sending_inboundmail_source")
        return [page, parser_page(self.admin_site), *super().get_urls()]

    def source_page(self, request: HttpRequest, mail_id: int) -> HttpResponse:
        """The mail as text. It may quote a customer's mail, so that somebody looked is written down."""
        mail = InboundMail.objects.filter(pk=mail_id).first()
        if mail is None:
            raise Http404
        actor, address = audit.actor_of(request), audit.address_of(request)
        audit.record("inbound_mail.source_shown", actor=actor, subject=mail, address=address)
        text = clean(bytes(mail.octets).replace(b"\r\n", b"\n"), MAX_SHOWN)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": f"Source of {mail}",
            "mail": mail,
            "text": text,
            "is_cut": len(text) >= MAX_SHOWN,
            "back": reverse("admin:sending_inboundmail_change", args=[mail.pk]),
        }
        return TemplateResponse(request, "admin/inbound_source.html", context)


def _short(address: str) -> str:
    """A return path without most of its letters."""
    local, at, domain = address.rpartition("@")
    return f"{local[:8]}…{at}{domain}" if len(local) > MAX_LOCAL else address


@admin.register(UnreadMail)
class UnreadMailAdmin(Facts):
    """Mail that came in and waits for the reader."""

    list_display = (Link("mail", InboundMail, "peer"), "due_at", "tries", "size_bytes")
    list_display_links = ("due_at",)
    ordering = ("due_at",)
