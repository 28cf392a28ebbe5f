"""Mail that came in, over the staff API: the contract's list of incoming mails, one of them, and reading it again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import BinaryField, QuerySet
from django.db.models.functions import Substr
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import audit
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint, page_of
from relay_project.db.ids import MAX_ID, id_floor, id_soon, id_time
from relay_project.mail.text import clean
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError
from relay_project.web.pagination import read_choice, read_page
from relay_project.web.schema import answer, choice, identifier, integer, listed, mapped, moment, nullable, page, string
from sending.inbound.again import read_again
from sending.models import Correlation, InboundKind, InboundMail, InboundState

MAX_LISTED = 16 * 1024  # octets of a source that a list shows
MAX_SHOWN = 1024 * 1024
FAILED = (InboundState.TROUBLE, InboundState.UNMATCHED, InboundState.FORGED)
NOT_AGAIN = "This mail waits to be read, or was handed on."

MAIL = answer(
    "IncomingMail",
    {
        "id": identifier(),
        "created_at": moment(),
        "type": nullable(choice(InboundKind.values, "Null until it was read.")),
        "status": choice(("success", "failed", "pending")),
        "state": choice(InboundState.values, "What became of it."),
        "raw_email": string(f"As it came; cut to {MAX_LISTED:,} octets in lists, to {MAX_SHOWN:,} elsewhere."),
        "size_bytes": integer("Of the whole.", 0),
        "mail_from": string("Empty: the null sender."),
        "rcpt_to": string("With commas, where there are several."),
        "peer": string("The address it came from."),
        "parsed_data": nullable(mapped({}, "`attempt_id`, and what it says of each of `recipients`.")),
        "error_message": nullable(string()),
        "correlation": nullable(choice(Correlation.values)),
        "project_id": nullable(identifier()),
        "send_id": nullable(identifier()),
    },
)


class IncomingMailsView(StaffEndpoint):
    """`/debug/incoming-mails`."""

    @describe(
        "listIncomingMails",
        "List mail that came in",
        "Reports of bounces and complaints, and what else came without a login.",
        query={**page("limit", "offset", "before_id"), "state": choice(InboundState.values, "Only those.")},
        answer=listed(MAIL),
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        rows = _kept()
        if state := read_choice(request.query_params, "state", InboundState.values):
            rows = rows.filter(state=state)
        page = page_of(_beginnings(rows), read_page(request.query_params))
        return Response([mail_object(row, row.beginning) for row in page])


class IncomingMailView(StaffEndpoint):
    """`/debug/incoming-mails/{id}`."""

    @describe(
        "getIncomingMail",
        "Get a mail that came in",
        "It may quote a customer's mail: that you read it stands in the audit log.",
        answer=MAIL,
    )
    def get(self, request: Request, mail_id: str) -> Response:
        """One of them."""
        mail = self.row(_kept(), mail_id)
        audit.record("inbound_mail.source_shown", subject=mail, **self.by)
        return Response(mail_object(mail, bytes(mail.octets[:MAX_SHOWN])))


class ReadAgainView(StaffEndpoint):
    """`/debug/incoming-mails/{id}/read-again`."""

    @describe(
        "readIncomingMailAgain",
        "Have a mail read again",
        "What it changed already is not changed twice.",
        answer=MAIL,
        refusals={400: (NOT_AGAIN,)},
    )
    def post(self, request: Request, mail_id: str) -> Response:
        """Within a second."""
        mail = self.row(_beginnings(_kept()), mail_id)
        if not read_again(mail, **self.by):
            raise ApiError(400, NOT_AGAIN)
        mail = self.row(_beginnings(_kept()), mail_id)
        return Response(mail_object(mail, mail.beginning))


def _kept() -> "QuerySet[InboundMail]":
    """All there is, with the range of ids that bounds the days."""
    now = datetime.now(UTC)
    oldest = id_floor(now - timedelta(days=settings.RETENTION_INBOUND_DAYS + 2))
    return InboundMail.objects.filter(pk__gte=max(oldest, 0), pk__lt=min(id_soon(now), MAX_ID))


def _beginnings(rows: "QuerySet[InboundMail]") -> "QuerySet[Any]":
    """Rows with the beginning of their octets alone: a page of whole mails would be gigabytes."""
    beginning = Substr("octets", 1, MAX_LISTED, output_field=BinaryField())
    return rows.defer("octets").annotate(beginning=beginning)


def mail_object(mail: InboundMail, octets: bytes) -> dict[str, Any]:
    """The contract's incoming mail, and ours beside it."""
    is_read = mail.state != InboundState.WAITING
    return {
        "id": mail.pk,
        "created_at": timestamp(id_time(mail.pk)),
        "type": mail.kind or None,
        "status": "pending" if not is_read else "failed" if mail.state in FAILED else "success",
        "state": str(mail.state),
        "raw_email": clean(bytes(octets), MAX_SHOWN),
        "size_bytes": mail.size_bytes,
        "mail_from": mail.mail_from,
        "rcpt_to": ", ".join(mail.recipients),
        "peer": mail.peer,
        "parsed_data": {"attempt_id": mail.attempt_id, "recipients": mail.findings} if is_read else None,
        "error_message": mail.trouble or None,
        "correlation": mail.correlation or None,
        "project_id": mail.project_id,
        "send_id": mail.send_id,
    }
