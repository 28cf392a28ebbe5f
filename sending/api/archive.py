"""Putting a project away over the API: on this floor, because what waits of it is cancelled with it."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from sending.api.schemas import ARCHIVE, ARCHIVED
from sending.backlog.stopped import archive_project


class ArchiveView(Endpoint):
    """`/project/archive`."""

    section = "Projects"
    required_scope = by_method(POST=Scope.PROJECT_WRITE)

    @describe(
        "archiveProject",
        "Archive the project",
        "Its keys open nothing from then on, and it is in no list. Its owners can restore it.",
        body=ARCHIVE,
        example={"cancel_waiting": True},
        answer=ARCHIVED,
        refusals={400: ("3 of this project's recipients still wait. …",)},
    )
    def post(self, request: Request) -> Response:
        """Put the project away; what waits must be gone, or is cancelled."""
        fields = self.fields()
        cancel_waiting = fields.boolean("cancel_waiting")
        fields.check()
        cancelled = archive_project(self.project, bool(cancel_waiting), datetime.now(UTC), self.caller)
        return Response({"id": self.project.pk, "status": "archived", "cancelled_recipients": cancelled})
