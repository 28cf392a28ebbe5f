"""Finding what a project has: its receiving domains, its routes, and the mail that came."""

from datetime import datetime

from django.db.models import QuerySet

from projects.models import Project
from relay_project.db.ids import MAX_ID, id_soon
from sending.models import InboundMail, InboundRoute, ReceivedMail, ReceivingDomain


def domains_of(project: Project) -> QuerySet[ReceivingDomain]:
    """By name; there are not many."""
    return ReceivingDomain.objects.filter(project=project).order_by("domain")


def routes_of(project: Project, domain_id: int | None = None) -> QuerySet[InboundRoute]:
    """In the order in which they are held against an address, domain by domain."""
    routes = InboundRoute.objects.filter(project=project).select_related("domain", "project")
    if domain_id is not None:
        routes = routes.filter(domain_id=domain_id)
    return routes.order_by("domain__domain", "priority", "id")


def find_received(
    project_id: int, now: datetime, limit: int, before_id: int | None = None, route_id: int | None = None
) -> list[ReceivedMail]:
    """A page, the newest first."""
    rows = ReceivedMail.objects.filter(project_id=project_id, pk__lt=min(before_id or MAX_ID, id_soon(now)))
    if route_id is not None:
        rows = rows.filter(route_id=route_id)
    return list(rows.order_by("-pk")[:limit])


def octets_of_mail(row: ReceivedMail) -> bytes | None:
    """The mail as it came; None when it is not kept any more."""
    octets = InboundMail.objects.filter(pk=row.mail_id).values_list("octets", flat=True).first()
    return None if octets is None else bytes(octets)
