"""`POST /sends/check`: what a mail would meet, without sending it."""

from datetime import UTC, datetime
from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.limits import recipients_per_send
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.errors import Violations
from sending.api.message import read_message
from sending.api.schemas import EXAMPLE_MESSAGE, NEW_SEND, PREFLIGHT
from sending.preflight.check import Report, check_message
from sending.preflight.finding import Finding, error


class CheckView(Endpoint):
    """`/sends/check`."""

    section = "Sends"
    required_scope = by_method(POST=Scope.SENDS_SEND)

    @describe(
        "checkSend",
        "Check a message",
        "Takes the body of POST /sends, sends and writes nothing, and says what the mail would meet. What is wrong with the "
        "body is among the findings.",
        body=NEW_SEND,
        example=EXAMPLE_MESSAGE,
        answer=PREFLIGHT,
    )
    def post(self, request: Request) -> Response:
        """The findings; about five seconds at most."""
        data = cast(dict[str, Any], self.fields().data)
        most = recipients_per_send(self.project)
        try:
            message = read_message(data, most_recipients=most, is_test=self.caller.is_test)
        except Violations as wrong:
            findings = [error("body", violation.message, violation.property) for violation in wrong.violations]
            return Response(report_object(Report(False, None, tuple(findings))))
        report = check_message(self.project, message.request, datetime.now(UTC))
        if message.undecodable is not None:
            undecodable = error(
                "body", f"Base64 decoding of attachment failed: index {message.undecodable}", "attachments"
            )
            report = Report(False, None, (undecodable, *report.findings))
        return Response(report_object(report))


def report_object(report: Report) -> dict[str, Any]:
    """A report as the API shows it."""
    return {
        "accepted": report.accepted,
        "worst": report.worst.value,
        "size_bytes": report.size_bytes,
        "findings": [_finding_object(finding) for finding in report.findings],
    }


def _finding_object(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "message": finding.message,
        "field": finding.field,
    }
