"""A report in plain values, in the words that `manage.py parse_report` prints and the staff's parser page shows."""

from typing import Any

from relay_project.mail.reports.model import Report, ReportedRecipient


def report_object(report: Report) -> dict[str, Any]:
    """`kind` and `recipients`."""
    return {"kind": report.kind.value, "recipients": [recipient_object(one) for one in report.recipients]}


def recipient_object(reported: ReportedRecipient) -> dict[str, str]:
    """What is said of one address."""
    return {
        "address": reported.address,
        "status": reported.status,
        "code": reported.code,
        "class": reported.bounce_class.value,
        "reason": reported.reason,
        "action": reported.action.value,
    }
