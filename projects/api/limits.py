"""What a project may do, and what of it is used, over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.schemas import PROJECT_LIMITS
from projects.endpoint import Endpoint
from projects.limits import limits_object, requests_used, sends_used
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe


class LimitsView(Endpoint):
    """`/project/limits`."""

    section = "Projects"
    required_scope = by_method(GET=Scope.PROJECT_READ)

    @describe(
        "getLimits",
        "Get the project's limits",
        "With the present use: of requests the asking key's, or person's; of messages the project's.",
        answer=PROJECT_LIMITS,
    )
    def get(self, request: Request) -> Response:
        """The limits that hold, and the present use."""
        now = datetime.now(UTC)
        used = [requests_used(self.caller, self.project, now), *sends_used(self.project, now)]
        return Response(limits_object(self.project, used))
