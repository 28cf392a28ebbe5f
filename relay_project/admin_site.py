"""The staff admin site: our sign-in, our menu, a content security policy of its own."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.conf import settings
from django.contrib.admin.apps import SimpleAdminConfig
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

# Alpine, which unfold is made of, compiles the expressions in its attributes; unfold writes its colours into the page.
# No other page of the product is given either.
POLICY = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}


class AdminConfig(SimpleAdminConfig):
    """Django's admin with our site in place of its own. relay_project.urls loads its pages: only the web serves them."""

    default_site = "relay_project.admin_site.StaffSite"


class StaffSite(UnfoldAdminSite):  # type: ignore[misc]  # unfold has no types
    """Staff only, signed in as everywhere else."""

    index_title = "Overview"

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Callable[..., Any]:
        """Every page of the site, guarded, under the site's own policy."""
        guarded: Callable[..., Any] = csp_replace(POLICY)(super().admin_view(view, cacheable))
        return guarded

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Go to the product's sign-in, which limits guesses; somebody who is signed in and is no staff is told so."""
        if request.user.is_authenticated and not self.has_permission(request):
            raise PermissionDenied
        here = reverse("admin:index")
        target = request.GET.get("next", "")
        back = target if target.startswith(here) else here
        return HttpResponseRedirect(f"{settings.LOGIN_URL}?{urlencode({'next': back})}")


def stylesheet(request: HttpRequest) -> str:
    """What unfold's own style sheet has no classes for."""
    return static("relay/admin.css")


def favicon(request: HttpRequest) -> str:
    """The console's."""
    return static("relay/favicon.svg")


MENU: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("", (("Overview", "monitoring", "index"),)),
    (
        "Mail",
        (
            ("Sends", "outgoing_mail", "sending_send"),
            ("Recipients", "alternate_email", "sending_recipient"),
            ("Attempts", "swap_horiz", "sending_attempt"),
            ("What they were told", "forum", "sending_attemptrecipient"),
            ("Waiting", "hourglass_top", "sending_waiting"),
            ("Mail that came in", "move_to_inbox", "sending_inboundmail"),
            ("Mail for projects", "stacked_email", "sending_receivedmail"),
            ("Inbound routes", "alt_route", "sending_inboundroute"),
            ("Suppressions", "do_not_disturb_on", "sending_suppression"),
            ("Soft bounces", "mark_email_unread", "sending_softbounce"),
            ("Statistics", "bar_chart", "statistics"),
            ("Figures by the day", "calendar_month", "sending_daycount"),
            ("Figures by the hour", "schedule", "sending_hourcount"),
            ("Parse a report", "troubleshoot", "report_parser"),
            ("Sandbox", "inbox", "sending_sandboxmessage"),
        ),
    ),
    (
        "Ways out",
        (
            ("Queues", "stacks", "queues_queue"),
            ("Orders", "receipt_long", "sending_operation"),
            ("Queue pauses", "pause_circle", "queues_pause"),
            ("Projects' own queues", "person_pin", "queues_projectqueue"),
            ("Source IPs", "lan", "ips_sourceip"),
            ("Held sites", "front_hand", "ips_heldsite"),
            ("Site limits", "speed", "ips_sitelimit"),
            ("Site pauses", "pause_circle", "ips_sitepause"),
            ("Volumes", "equalizer", "ips_sendcount"),
            ("Incidents", "warning", "ips_incident"),
            ("TLS overrides", "lock", "ips_tlsoverride"),
            ("MTA-STS policies", "verified_user", "ips_mtastspolicy"),
            ("Rules of replies", "rule", "bounce_rules"),
            ("Senders", "send", "ips_sender"),
            ("Servers", "dns", "ips_server"),
        ),
    ),
    (
        "Tenants",
        (
            ("Projects", "folder", "projects_project"),
            ("Members", "group", "projects_membership"),
            ("Suspensions", "block", "projects_suspension"),
            ("Invitations", "mark_email_unread", "projects_invitation"),
            ("Notices", "notifications", "projects_notice"),
            ("Domains", "language", "projects_domain"),
            ("Receiving domains", "mark_email_read", "sending_receivingdomain"),
            ("DKIM keys", "signature", "projects_dkimkey"),
            ("Reports about domains", "summarize", "projects_domainreport"),
            ("API keys", "key", "projects_apikey"),
            ("Rotated keys", "sync_lock", "projects_formersecret"),
            ("Webhooks", "webhook", "webhooks_webhook"),
            ("Webhook deliveries", "outbound", "webhooks_webhookdelivery"),
            ("Webhook replays", "replay", "webhooks_webhookreplay"),
            ("Mailboxes", "markunread_mailbox", "webhooks_mailbox"),
            ("Events", "history", "projects_event"),
        ),
    ),
    (
        "People",
        (
            ("People", "person", "accounts_user"),
            ("Identities", "badge", "accounts_identity"),
            ("Sign-in links", "link", "accounts_signinlink"),
            ("Staff keys", "key", "accounts_staffkey"),
            ("Audit log", "policy", "accounts_auditentry"),
        ),
    ),
    (
        "Machinery",
        (
            ("Jobs", "work", "procrastinate_procrastinatejob"),
            ("Event outbox", "outbox", "projects_eventoutbox"),
            ("Event feed", "rss_feed", "projects_feedposition"),
            ("Waiting for webhooks", "pending", "webhooks_webhookwaiting"),
            ("Webhooks being called", "phone_in_talk", "webhooks_webhooklane"),
            ("Tokens of mailboxes", "key", "webhooks_mailboxtoken"),
            ("Items in mailboxes", "inventory_2", "webhooks_mailboxitem"),
            ("Events of mailboxes", "pending", "webhooks_mailboxevent"),
            ("Readers of events", "auto_stories", "sending_readerposition"),
            ("Unread mail", "mark_email_unread", "sending_unreadmail"),
            ("Unexamined mail", "mark_email_unread", "sending_unexaminedmail"),
            ("Search texts", "manage_search", "sending_searchtext"),
            ("Contents", "draft", "sending_content"),
            ("Signatures", "verified", "sending_signature"),
            ("Idempotency keys", "fingerprint", "sending_idempotencyrecord"),
            ("Measurements", "straighten", "sending_measurement"),
            ("Retention", "auto_delete", "relay_project_retentionrun"),
            ("Forgotten days", "event_busy", "sending_forgottenday"),
        ),
    ),
)


def menu(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar, in groups. The page is the entry's whose address is the longest part of its own: some have pages below."""
    links = {
        _url(view) for _, entries in MENU for _, _, view in entries if view != "index" or request.path == _url(view)
    }
    here = max((link for link in links if request.path.startswith(link)), key=len, default="")
    return [
        {
            "title": title,
            "separator": bool(title),
            "collapsible": title == "Machinery",
            "items": [
                {"title": name, "icon": icon, "link": _url(view), "active": _url(view) == here}
                for name, icon, view in entries
            ],
        }
        for title, entries in MENU
    ]


def _url(view: str) -> str:
    return reverse("admin:index") if view == "index" else reverse(f"admin:{view}_changelist")
