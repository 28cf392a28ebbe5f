"""A project's first page: what was sent lately, what waits now, and what a newcomer does next."""

from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from projects.console.page import Place, project_page, render_place
from projects.models import ApiKey, Domain
from projects.models.domain import MAY_SEND
from projects.scopes import Scope
from relay_project.web.fragments import wants_fragment
from sending.console.sends import rows_of
from sending.recent import recent_counts, what_waits
from sending.search import SendFilter, find_sends
from sending.statistics.chart import Bar, Tile, chart_bars, tiles

LATEST = 6  # sends on the overview


@dataclass(frozen=True, slots=True)
class Task:
    """One step of getting started."""

    title: str
    detail: str
    is_done: bool
    url: str = ""
    link: str = ""


@require_safe
@project_page(Scope.PROJECT_READ)
def overview(request: HttpRequest, place: Place) -> HttpResponse:
    """The page; htmx asks again for the part about what waits."""
    now = datetime.now(UTC)
    if wants_fragment(request):
        return render_place(
            request,
            place,
            "sending/overview.html",
            _waiting(place, now),
            section="overview",
            fragment="sending/_waiting.html",
        )
    latest = find_sends(place.project.pk, SendFilter(), LATEST) if place.may(Scope.SENDS_READ) else []
    context = {
        "latest": rows_of(latest),
        "tasks": [] if latest else _tasks(place),
        "curl": curl_example(),
        **_waiting(place, now),
        **_figures(place, now),
    }
    return render_place(request, place, "sending/overview.html", context, section="overview")


def _waiting(place: Place, now: datetime) -> dict[str, object]:
    groups, more = what_waits(place.project.pk, now)
    return {"waiting": groups, "waiting_more": more, "waiting_total": sum(group.number for group in groups), "now": now}


def _figures(place: Place, now: datetime) -> dict[str, list[Tile] | list[Bar]]:
    recent = recent_counts(place.project.pk, now)
    return {"tiles": tiles(recent), "bars": chart_bars(recent)}


def _tasks(place: Place) -> list[Task]:
    """What a project needs before its first mail, in order."""
    pk = place.project.pk
    statuses = set(Domain.objects.filter(project=place.project).values_list("status", flat=True))
    domains = reverse("console-domains", args=[pk])
    return [
        Task(
            "Add a domain",
            "The domain after the @ of your From addresses.",
            bool(statuses),
            reverse("console-new-domain", args=[pk]),
            "Add domain",
        ),
        Task(
            "Publish its DKIM record and verify",
            "One TXT record at your DNS provider proves that the domain is yours and signs what you send.",
            bool(statuses.intersection(MAY_SEND)),
            domains,
            "See the record",
        ),
        Task(
            "Create an API key",
            "It is shown once. Give it the scope sends.send and the addresses it may be used from.",
            ApiKey.objects.filter(project=place.project).exists(),
            reverse("console-new-key", args=[pk]),
            "Create key",
        ),
        Task("Send the first mail", "With the command below, or your own code. Then watch its journey here.", False),
    ]


def curl_example(key: str = "YOUR_API_KEY", from_address: str = "you@your-domain.example") -> str:
    """A command that sends one mail; the simulator's address is safe to try: nothing leaves the machine."""
    return (
        f"curl {settings.WEB_URL}/api/console/sends \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"from": "{from_address}", "to": "accept@{settings.SIMULATOR_DOMAIN}",\n'
        '       "subject": "Hello", "body_text": "It works."}\''
    )
