"""Everybody's projects and domains over the staff API."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.models import Min, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from projects import domain_status
from projects.api.schemas import DOMAIN
from projects.api.staff_schemas import ONE_ORGANISATION, ORGANISATION, STAFF_PROJECT, staff_project_object
from projects.dkim_keys import current_key
from projects.models import Domain, Membership, Project
from projects.models.domain import DomainStatus
from projects.objects import domain_object, domain_objects
from projects.staff_endpoint import StaffEndpoint, page_of
from relay_project.web.describe import describe
from relay_project.web.pagination import read_choice, read_number, read_page, read_text
from relay_project.web.schema import answer, body, choice, integer, listed, nullable, page, text

MAX_REASON = 200  # characters; the rest of the column says that it is a suspension
PROJECT_ID = {"project_id": integer("Of this project alone.")}


class StaffProjectsView(StaffEndpoint):
    """`/projects`."""

    @describe(
        "staffListProjects",
        "List projects",
        query={
            **page("limit", "before_id"),
            "search": text("A part of the name."),
            "organization_id": integer("An installation is one organisation, 0: any other number has no projects."),
        },
        answer=answer("StaffProjects", {"projects": listed(STAFF_PROJECT), "orgs": listed(ORGANISATION)}),
    )
    def get(self, request: Request) -> Response:
        """A page of projects, the newest first."""
        query = request.query_params
        projects: QuerySet[Project] = Project.objects.all()
        if search := read_text(query, "search"):
            projects = projects.filter(name__icontains=search)
        if read_number(query, "organization_id") not in (None, ONE_ORGANISATION["id"]):
            projects = projects.none()
        found = list(page_of(projects, read_page(query)))
        return Response({"projects": staff_project_objects(found), "orgs": [ONE_ORGANISATION] if found else []})


class OrganisationsView(StaffEndpoint):
    """`/projects/organizations`."""

    @describe("listOrganizations", "List organisations", query=page("limit", "before_id"), answer=listed(ORGANISATION))
    def get(self, request: Request) -> Response:
        """The one that there is."""
        before = read_page(request.query_params).before_id
        return Response([ONE_ORGANISATION] if before is None or before > ONE_ORGANISATION["id"] else [])


class StaffProjectView(StaffEndpoint):
    """`/projects/{id}`."""

    @describe(
        "staffGetProject",
        "Get a project",
        answer=answer("StaffOneProject", {"project": STAFF_PROJECT, "org": nullable(ORGANISATION)}),
    )
    def get(self, request: Request, project_id: str) -> Response:
        """One project."""
        project = self.row(Project.objects.all(), project_id, "Project not found")
        return Response({"project": staff_project_objects([project])[0], "org": ONE_ORGANISATION})


class StaffDomainsView(StaffEndpoint):
    """`/domains`."""

    @describe(
        "staffListDomains",
        "List everybody's domains",
        query={**page(), **PROJECT_ID, "search": text("A part of the name."), "status": choice(DomainStatus.values)},
        answer=listed(DOMAIN),
    )
    def get(self, request: Request) -> Response:
        """A page of domains, the newest first."""
        query = request.query_params
        domains: QuerySet[Domain] = Domain.objects.all()
        if search := read_text(query, "search"):
            domains = domains.filter(domain__contains=search.lower())
        if (project_id := read_number(query, "project_id")) is not None:
            domains = domains.filter(project_id=project_id)
        if status := read_choice(query, "status", DomainStatus.values):
            domains = domains.filter(status=status)
        return Response(domain_objects(list(page_of(domains, read_page(query)))))


class SuspendDomainView(StaffEndpoint):
    """`/domains/{id}/suspend`."""

    @describe(
        "suspendDomain",
        "Stop a domain from sending",
        "Its mail waits. The owner reads the reason.",
        body=body("SuspendDomain", {"reason": text(maximum=MAX_REASON, blank=False)}, ["reason"]),
        answer=DOMAIN,
    )
    def post(self, request: Request, domain_id: str) -> Response:
        """Suspend it."""
        domain = self.row(Domain.objects.all(), domain_id)
        fields = self.fields()
        reason = fields.text("reason", required=True, maximum=MAX_REASON) or ""
        fields.check()
        domain = domain_status.suspend(domain, reason, datetime.now(UTC), self.by["actor"], self.by["address"])
        return Response(domain_object(domain, current_key(domain)))


class ReinstateDomainView(StaffEndpoint):
    """`/domains/{id}/reinstate`."""

    @describe(
        "reinstateDomain",
        "Let a suspended domain back",
        "It is pending, and looked up in DNS at once.",
        answer=DOMAIN,
        refusals={400: ("Only a suspended domain can be reinstated.",)},
    )
    def post(self, request: Request, domain_id: str) -> Response:
        """Reinstate it."""
        domain = self.row(Domain.objects.all(), domain_id)
        domain = domain_status.reinstate(domain, datetime.now(UTC), self.by["actor"], self.by["address"])
        return Response(domain_object(domain, current_key(domain)))


def staff_project_objects(projects: Sequence[Project]) -> list[dict[str, Any]]:
    """StaffProjects with who founded each: the first membership that is left."""
    rows = Membership.objects.filter(project__in=projects).order_by().values_list("project_id").annotate(Min("user_id"))
    founders = dict(rows)
    return [staff_project_object(project, founders.get(project.pk)) for project in projects]
