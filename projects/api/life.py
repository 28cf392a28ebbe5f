"""Bringing an archived project back over the API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.schemas import PROJECT, RESTORE
from projects.endpoint import Endpoint
from projects.life import archived_project, restore
from projects.objects import project_object
from relay_project.web.describe import describe


class RestoreView(Endpoint):
    """`/project/restore`, at organisation level: nobody enters an archived project."""

    section = "Projects"
    project_level = False

    @describe(
        "restoreProject",
        "Restore an archived project",
        "By a person who has `project.write` in it, or by staff. Its keys work again.",
        body=RESTORE,
        answer=PROJECT,
        refusals={403: ("There is no archived project with this id that you may restore.",)},
    )
    def post(self, request: Request) -> Response:
        """The project as it was."""
        fields = self.fields()
        project_id = fields.integer("project_id", required=True)
        fields.check()
        user = self.caller.user
        assert user is not None  # at organisation level there is always one
        project = archived_project(user, project_id or 0)
        return Response(project_object(restore(project, datetime.now(UTC), self.caller)))
