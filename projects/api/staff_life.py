"""What staff decide about a project, over the staff API: its limits, and whether it sends."""

from collections.abc import Callable
from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects import life
from projects.api.schemas import PROJECT, PROJECT_LIMITS
from projects.limits import NAMES, bounds_of, limits_object, sends_used, set_limits
from projects.models import Project
from projects.objects import project_object
from projects.staff_endpoint import StaffEndpoint
from relay_project.web.describe import describe
from relay_project.web.schema import body, integer, text

OWN_LIMITS = body("OwnLimits", {name: integer("Null: the installation's.", *bounds_of(name)) for name in sorted(NAMES)})


class _OneProject(StaffEndpoint):
    """What is done to one project."""

    def project(self, project_id: str) -> Project:
        """The project of the path."""
        return self.row(Project.objects.all(), project_id, "Project not found")

    def change(self, project_id: str, rule: Callable[..., Project]) -> Response:
        """Let a rule decide."""
        return Response(project_object(rule(self.project(project_id), now=datetime.now(UTC), caller=self.caller)))


class StaffLimitsView(_OneProject):
    """`/projects/{id}/limits`."""

    @describe("staffGetLimits", "Get a project's limits, and what of them is used", answer=PROJECT_LIMITS)
    def get(self, request: Request, project_id: str) -> Response:
        """Those that hold."""
        return Response(self._shown(self.project(project_id)))

    @describe(
        "staffSetLimits",
        "Give a project its own limits",
        "What is left out stays; null is the installation's again. They hold from the next request on.",
        body=OWN_LIMITS,
        example={"sends_per_second": 100, "recipients_per_send": 50},
        answer=PROJECT_LIMITS,
    )
    def patch(self, request: Request, project_id: str) -> Response:
        """Set those that the body names."""
        project, fields = self.project(project_id), self.fields()
        named = [name for name in NAMES if name in fields.data]
        wanted = {name: fields.integer(name) for name in named}
        fields.check()
        return Response(self._shown(set_limits(project, wanted, self.caller)))

    def _shown(self, project: Project) -> dict[str, object]:
        return limits_object(project, sends_used(project, datetime.now(UTC)))


class SuspendProjectView(_OneProject):
    """`/projects/{id}/suspend`."""

    @describe(
        "suspendProject",
        "Stop a project's mail",
        "Within a second; what waits is kept and does not expire. Its people read the reason.",
        body=body("SuspendProject", {"reason": text(blank=False)}, ["reason"]),
        answer=PROJECT,
        refusals={400: ("The project is suspended already.",)},
    )
    def post(self, request: Request, project_id: str) -> Response:
        """Suspend it."""
        fields = self.fields()
        reason = fields.text("reason", required=True) or ""
        fields.check()
        return self.change(project_id, lambda project, **by: life.suspend(project, reason, **by))


class ResumeProjectView(_OneProject):
    """`/projects/{id}/resume`."""

    @describe(
        "resumeProject",
        "Let a suspended project send again",
        answer=PROJECT,
        refusals={400: ("The project is not suspended.",)},
    )
    def post(self, request: Request, project_id: str) -> Response:
        """Resume it."""
        return self.change(project_id, life.resume)


class StaffRestoreView(_OneProject):
    """`/projects/{id}/restore`."""

    @describe(
        "staffRestoreProject",
        "Bring an archived project back",
        answer=PROJECT,
        refusals={400: ("The project is not archived.",)},
    )
    def post(self, request: Request, project_id: str) -> Response:
        """Restore it."""
        return self.change(project_id, life.restore)
