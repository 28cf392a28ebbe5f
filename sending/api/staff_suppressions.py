"""Addresses that nobody's mail goes to, over the staff API."""

from datetime import UTC, datetime

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit
from projects.staff_endpoint import By, StaffEndpoint
from relay_project.web.describe import describe
from relay_project.web.pagination import read_page
from relay_project.web.schema import EMPTY_LIST, listed
from sending.api.suppression_schemas import EVERYBODYS_QUERY, NEW_EVERYBODYS_SUPPRESSION, SUPPRESSION
from sending.api.suppressions import read_filter, read_wanted
from sending.models import Suppression
from sending.suppressions.change import put, take_off
from sending.suppressions.find import find_suppressions, of_owner
from sending.suppressions.objects import suppression_object


class StaffSuppressionsView(StaffEndpoint):
    """`/suppressions`."""

    @describe(
        "staffListSuppressions",
        "List installation-wide suppressions",
        query=EVERYBODYS_QUERY,
        answer=listed(SUPPRESSION),
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        page, wanted = read_page(request.query_params), read_filter(request.query_params)
        rows = find_suppressions(None, wanted, datetime.now(UTC), page.limit, page.offset, page.before_id)
        return Response([suppression_object(row) for row in rows])

    @describe(
        "staffCreateSuppression",
        "Suppress an address for everybody",
        "`list` is of no meaning here and refused.",
        body=NEW_EVERYBODYS_SUPPRESSION,
        example={"email": "dora@example.com", "description": "asked us by phone"},
        answer=SUPPRESSION,
    )
    def post(self, request: Request) -> Response:
        """Suppress one; one that is there already is answered as it is."""
        fields = self.fields()
        if "list" in fields:
            fields.note("list", "A list belongs to a project.")
        wanted = read_wanted(fields, datetime.now(UTC))
        with transaction.atomic():
            row, is_new = put(None, wanted)
            if is_new:
                record(self.by, "suppression.added", row)
        return Response(suppression_object(row))


class StaffSuppressionView(StaffEndpoint):
    """`/suppressions/{id}`."""

    @describe("staffDeleteSuppression", "Take an address off the installation's list", answer=EMPTY_LIST)
    def delete(self, request: Request, suppression_id: str) -> Response:
        """Mail to it goes again."""
        row = self.row(of_owner(None), suppression_id)
        with transaction.atomic():
            if take_off(row):
                record(self.by, "suppression.removed", row)
        return Response([])


def record(by: By, action: str, row: Suppression) -> None:
    """Write the audit entry in the caller's transaction."""
    audit.record(action, subject=row, detail={"reason": row.reason, "scope": "installation"}, **by)
