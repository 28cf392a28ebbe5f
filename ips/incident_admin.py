"""Staff admin: incidents, and the table of replies that opens them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import audit
from accounts.models import User
from ips import incidents
from ips.models import Incident, SourceIp
from ips.remedies import remedies
from projects.models import Project
from relay_project.mail.classify import RULES, Cause, Rule, classify, is_throttle, source_of
from relay_project.mail.reply import MalformedReply, Reply, Stage, parse_reply
from relay_project.web.staff import MAX_REASON, Confirmation, Facts, Link, column, confirmed

MAX_SAID = 70  # characters of a reply in the list
MAX_TRIED = 2000  # characters of a reply that somebody tries


class WithNote(Confirmation):
    """What is being done, or was."""

    note = forms.CharField(
        max_length=MAX_REASON,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What is being done, or was. Shown on the incident, and kept in the audit log.",
    )


class Standing(admin.SimpleListFilter):
    """Open ones, unless others are asked for."""

    title = "standing"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The choices beside the open ones."""
        return [("new", "Open, not acknowledged"), ("closed", "Closed"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """`All` of Django's is our `Open`."""
        first, *others = super().choices(changelist)
        yield {**first, "display": "Open"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """The chosen ones."""
        wanted = self.value()
        if wanted == "all":
            return queryset
        if wanted == "closed":
            return queryset.exclude(closed_at=None)
        found = queryset.filter(closed_at=None)
        return found.filter(acknowledged_at=None) if wanted == "new" else found


@admin.register(Incident)
class IncidentAdmin(Facts):
    """What receivers say of our addresses."""

    computed = ("standing", "what_to_do", "they_said", "why", "met_by")
    secret = ("rule", "last_send_id", "last_reply", "replies", "window_began_at", "window_count")  # shown otherwise
    links = (Link("last_project", Project), Link("acknowledged_by", User))
    list_display = (
        "cause",
        "site",
        Link("source_ip", SourceIp, "address"),
        "standing",
        "attempt_count",
        "last_seen_at",
        "said",
    )
    list_display_links = ("cause", "site")
    list_filter = (Standing, "cause", "source_ip")
    search_fields = ("site", "rule__exact")
    search_help_text = "Part of a site, or exact rule"
    actions_detail = ("acknowledge", "close")

    @column("standing", label={"new": "danger", "acknowledged": "warning", "closed": "success"})
    def standing(self, incident: Incident) -> str:
        """How far it got."""
        if incident.closed_at:
            return "closed"
        return "acknowledged" if incident.acknowledged_at else "new"

    @column("what to do")
    def what_to_do(self, incident: Incident) -> SafeString:
        """By its cause, its provider and what they said."""
        found = remedies(Cause(incident.cause), incident.site, [each["text"] for each in incident.replies])
        return format_html_join("", "<p>{}</p>", [(sentence,) for sentence in found])

    @column("what they said")
    def they_said(self, incident: Incident) -> SafeString:
        """The different replies, the newest first; of an incident from before these were kept, the last."""
        quotes = incident.replies or [{"text": incident.last_reply, "count": incident.attempt_count, "at": ""}]
        rows = [(each["text"] or "No reply.", each["count"], str(each["at"])[:16].replace("T", " ")) for each in quotes]
        return format_html_join("", "<p>{} <small>({} times, last {})</small></p>", rows)

    @column("last reply")
    def said(self, incident: Incident) -> str:
        """As much of it as a list has room for."""
        return Truncator(incident.last_reply).chars(MAX_SAID)

    @column("rule")
    def why(self, incident: Incident) -> SafeString:
        """What decided last, and where that is written."""
        source = source_of(incident.rule) or "This version has no such row."
        url = reverse("admin:bounce_rules_changelist")
        return format_html('<a href="{}#{}">{}</a>: {}', url, incident.rule, incident.rule, source)

    @column("last send")
    def met_by(self, incident: Incident) -> SafeString:
        """By its name alone: sends belong to a floor above."""
        url = reverse("admin:sending_send_change", args=[incident.last_send_id])
        return format_html('<a href="{}">{}</a>', url, incident.last_send_id)

    @confirmed(
        "Acknowledge",
        question="{}: somebody is on it. What is being done?",
        icon="visibility",
        form=WithNote,
        fits=lambda incident: not (incident.closed_at or incident.acknowledged_at),
    )
    def acknowledge(self, request: HttpRequest, incident: Incident, data: dict[str, Any]) -> str:
        """Say that somebody is on it."""
        actor, address = audit.actor_of(request), audit.address_of(request)
        done = incidents.acknowledge(incident, data["note"], timezone.now(), actor=actor, address=address)
        return "Acknowledged." if done else "Somebody was faster."

    @confirmed(
        "Close",
        question="{}: is it over? When it is seen again, another incident opens.",
        icon="task_alt",
        form=WithNote,
        fits=lambda incident: not incident.closed_at,
    )
    def close(self, request: HttpRequest, incident: Incident, data: dict[str, Any]) -> str:
        """End it."""
        actor, address = audit.actor_of(request), audit.address_of(request)
        done = incidents.close(incident, data["note"], timezone.now(), actor=actor, address=address)
        return "Closed." if done else "It was closed already."

    def get_urls(self) -> list[URLPattern]:
        """The table of replies has no rows of a model."""
        page = path("rules/", self.admin_site.admin_view(self.rules), name="bounce_rules_changelist")
        return [page, *super().get_urls()]

    def rules(self, request: HttpRequest) -> HttpResponse:
        """The table that decides what a reply means, and a box to try one."""
        text, stage = request.GET.get("reply", "")[:MAX_TRIED], request.GET.get("stage", "")
        stage = stage if stage in set(Stage) else Stage.RCPT.value
        context = {
            **self.admin_site.each_context(request),
            "title": "Rules of replies",
            "rules": [(rule, _conditions(rule)) for rule in RULES],
            "stages": list(Stage),
            "stage": stage,
            "reply": text,
            **(_tried(Stage(stage), text) if text.strip() else {}),
        }
        return TemplateResponse(request, "admin/rules.html", context)


def _conditions(rule: Rule) -> list[tuple[str, str]]:
    """(what, which) of a row's conditions but its text."""
    lists = (("codes", rule.codes), ("enhanced", sorted(rule.enhanced)), ("stages", sorted(rule.stages)))
    return [(name, ", ".join(values)) for name, values in lists if values]


def _tried(stage: Stage, text: str) -> dict[str, object]:
    """What a reply would mean."""
    try:
        reply: Reply = parse_reply([line.encode() for line in text.splitlines() if line.strip()])
    except MalformedReply as error:
        return {"trouble": f"That is no SMTP reply ({error}). It begins with three digits."}
    verdict = classify(stage, reply)
    return {"verdict": verdict, "throttle": is_throttle(stage, reply), "source": source_of(verdict.rule)}
