"""What came back about a send's recipients after they were accepted, read for the API, the pages and the words."""

from relay_project.db.ids import hours_after
from sending.explain import reply_text
from sending.models import Feedback, FeedbackType, Send


def feedback_of(send: Send) -> list[Feedback]:
    """A send's feedback, the oldest first; it lies where its recipients do."""
    rows = Feedback.objects.filter(send_id=send.pk, recipient_id__gte=send.pk, recipient_id__lt=hours_after(send.pk, 1))
    return list(rows.order_by("id"))


def said(row: Feedback) -> str:
    """The report in a line, without a full stop."""
    if row.type == FeedbackType.COMPLAINT:
        return row.reason
    if row.code:
        return reply_text(row.code, row.status or None, row.reason)
    return " ".join(filter(None, (row.status, row.reason))).rstrip(". ") or "no reason given"
