"""Projects over the API, and what a console asks when it starts."""

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from projects.access import memberships_of
from projects.api.schemas import (
    EXAMPLE_PROJECT,
    INIT,
    INIT_PROJECT,
    NEW_PROJECT,
    PROJECT,
    PROJECT_CHANGE,
    PROJECT_USER,
)
from projects.compliance import COMPLIANCE_RATES
from projects.endpoint import Endpoint, person_of
from projects.event_registry import kinds_for
from projects.keeping import LEAST_DAYS, keep_content, most_days
from projects.members import IDENTITIES, create_project, rename_project
from projects.models import Project, SendType
from projects.objects import project_object, project_user_object, project_user_objects
from projects.roles import role_objects
from projects.scopes import SCOPES, Scope, by_method
from relay_project.web.describe import describe

ORGANISATION = {"id": 0, "name": "Default", "role": "admin"}  # an installation is one organisation


class ProjectView(Endpoint):
    """`/project`, of which POST is at organisation level."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_READ, PATCH=Scope.PROJECT_WRITE)

    @property
    def project_level(self) -> bool:  # type: ignore[override]
        """Whoever makes a project is not in one yet."""
        return self.request.method != "POST"

    @describe("getProject", "Get the project", answer=PROJECT, sample=EXAMPLE_PROJECT)
    def get(self, request: Request) -> Response:
        """The project."""
        return Response(project_object(self.project))

    @describe(
        "updateProject",
        "Change the project",
        "Only what the body names.",
        body=PROJECT_CHANGE,
        example={"name": "Shop"},
        answer=PROJECT,
        sample=EXAMPLE_PROJECT,
    )
    def patch(self, request: Request) -> Response:
        """Rename it, or say how long its content is kept (null: as long as the instance keeps it)."""
        fields = self.fields()
        name = fields.text("name", required="name" in fields)
        days = fields.integer("content_days")
        if days is not None and not LEAST_DAYS <= days <= most_days():
            fields.note("content_days", f"This value should be between {LEAST_DAYS} and {most_days()}.")
        fields.check()
        project = self.project if name is None else rename_project(self.project, name, self.caller)
        if "content_days" in fields.data:  # null is a wish, too
            project = keep_content(project, days, self.caller)
        return Response(project_object(project))

    @describe(
        "createProject",
        "Found a project",
        "The answer is its founder's membership, with every scope.",
        body=NEW_PROJECT,
        example={"name": "Shop", "send_type": "transactional"},
        answer=PROJECT_USER,
    )
    def post(self, request: Request) -> Response:
        """Found one; the answer is its founder's ProjectUser."""
        fields = self.fields()
        name = fields.text("name", required=True)
        send_type = fields.choice("send_type", SendType.values, required=True)
        fields.check()
        user = person_of(self)
        return Response(project_user_object(create_project(user, name or "", send_type or "", self.caller)))


class InitView(Endpoint):
    """`/init`: what a console asks first, outside of any project."""

    section = "Console"
    project_level = False

    @describe("init", "What a console asks first", answer=INIT)
    def get(self, request: Request) -> Response:
        """The person's projects and the installation's constants."""
        user = person_of(self)
        memberships = memberships_of(user).prefetch_related(IDENTITIES)
        return Response(
            {
                "project_users": project_user_objects(memberships),
                "config": _config(user),
                "organization": ORGANISATION,
            }
        )


class InitProjectView(Endpoint):
    """`/init/project`."""

    section = "Console"
    required_scope = by_method(GET=Scope.PROJECT_READ)

    @describe("initProject", "What a console asks of a project", answer=INIT_PROJECT)
    def get(self, request: Request) -> Response:
        """The project that the console has switched to."""
        return Response({"project": project_object(self.project)})


def _config(user: User) -> dict[str, Any]:
    system = Project.objects.filter(is_system=True).first()
    return {
        "deployment": "on-prem",
        "hyvor": {"instance": settings.WEB_URL},
        "user": {
            "id": user.pk,
            "name": user.name,
            "email": user.email or user.login or "",
            "picture_url": user.picture_url or None,
            "is_sudo": user.is_staff,
        },
        "app": {
            "system_project_id": system.pk if system else None,
            "webhook": {"events": [kind.value for kind in kinds_for(is_system=False)]},
            "api_keys": {"scopes": [scope.value for scope in SCOPES], "roles": role_objects()},
            "compliance": {"rates": COMPLIANCE_RATES},
        },
    }
