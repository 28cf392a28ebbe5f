"""Series of the whole installation over the staff API."""

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from projects.staff_endpoint import StaffEndpoint
from relay_project.web.describe import describe
from sending.api.analytics import MAX_STEPS, SERIES_ANSWER, SERIES_QUERY, read_limit, read_range, series_answer
from sending.models.statistics import INSTANCE
from sending.statistics.names import names_of
from sending.statistics.read import read_series


class StaffSeriesView(StaffEndpoint):
    """`/analytics/series`."""

    @describe(
        "staffGetSeries",
        "Get series of everybody's mail",
        f"By project, queue, source IP, provider, domain or tag; at most {MAX_STEPS} steps.",
        query=SERIES_QUERY,
        answer=SERIES_ANSWER,
    )
    def get(self, request: Request) -> Response:
        """What was sent and what became of it."""
        wanted = read_range(request.query_params, INSTANCE, datetime.now(UTC))
        series = read_series(wanted, read_limit(request.query_params))
        return Response(series_answer(wanted, series, names_of(wanted.dimension, series)))
