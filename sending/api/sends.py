"""Sends over the API: the list, one by id or uuid, its content, and trying again."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response

from projects.endpoint import Endpoint
from projects.life import check_may_send
from projects.scopes import Scope, by_method
from projects.staff_views import note_content_view
from relay_project.db.ids import id_of_uuid
from relay_project.web.describe import describe, described_as
from relay_project.web.errors import ApiError, violation
from relay_project.web.pagination import read_page, read_text
from relay_project.web.schema import listed
from sending.api.schemas import (
    CANCEL,
    CANCELLED,
    MAX_RECIPIENT_IDS,
    RESCHEDULE,
    RESCHEDULED,
    RETRIED,
    RETRY,
    SEND,
    SEND_CONTENT,
    SEND_FILTER,
)
from sending.api.submit import submit
from sending.backlog.cancel import cancel_by
from sending.content import raw_message, stored_message
from sending.models import RecipientStatus, Send
from sending.objects import content_object, full_send_object, send_objects
from sending.reschedule import NOTHING_WAITS, WAS_TRIED, RescheduleRefused, reschedule
from sending.reschedule import TOO_FAR as AHEAD
from sending.retry import IN_THE_PAST, NO_CONTENT, NONE_FAILED, NONE_MATCHES, TOO_FAR, RetryRefused, retry
from sending.search import SendFilter, find_sends

NO_SUCH_UUID = {400: ("Send with UUID … does not belong to project",), 404: ("Send with UUID … not found",)}
DATE = "This value is not a valid date."
TEST_ONLY = "A test key can only change sends that were made with a test key."


class SendsView(Endpoint):
    """`/sends`, all methods but POST."""

    section = "Sends"
    required_scope = by_method(GET=Scope.SENDS_READ)

    @property
    def allowed_methods(self) -> list[str]:
        """What `Allow` names."""
        return [*super().allowed_methods, "POST"]

    @describe("listSends", "List sends", "The newest first, without attempts.", query=SEND_FILTER, answer=listed(SEND))
    def get(self, request: Request) -> Response:
        """A page of sends, the newest first; few queries, whatever the page's length."""
        page = read_page(request.query_params)
        wanted = read_filter(request.query_params)
        return Response(send_objects(find_sends(self.project.pk, wanted, page.limit, page.before_id)))


_list = SendsView.as_view()


@csrf_exempt
@described_as(SendsView, post=submit)
def sends(request: HttpRequest) -> HttpResponse:
    """`/sends`: POST goes the short way."""
    return submit(request) if request.method == "POST" else _list(request)


class SendView(Endpoint):
    """`/sends/{id}`."""

    section = "Sends"
    required_scope = by_method(GET=Scope.SENDS_READ)

    @describe("getSend", "Get a send", "With its attempts, the newest first.", answer=SEND)
    def get(self, request: Request, send_id: str) -> Response:
        """One send with its attempts."""
        return Response(full_send_object(self.entity(Send.objects.all(), send_id), datetime.now(UTC)))


class SendEndpoint(Endpoint):
    """A view that changes a send."""

    def own_send(self, send_id: str) -> Send:
        """The project's send; what real keys sent is none of a test key's business (403)."""
        send = self.entity(Send.objects.all(), send_id)
        if self.caller.is_test and not send.is_test:
            raise ApiError(403, TEST_ONLY)
        return send


class RetryView(SendEndpoint):
    """`/sends/{id}/retry`."""

    section = "Sends"
    required_scope = by_method(POST=Scope.SENDS_SEND)

    @describe(
        "retrySend",
        "Try a send again",
        "While any recipient still waits, everything that waits is due now and the fields are ignored. Otherwise its "
        "`failed` recipients wait anew.",
        body=RETRY,
        example={},
        answer=RETRIED,
        refusals={400: (NONE_FAILED, NONE_MATCHES, IN_THE_PAST, TOO_FAR, NO_CONTENT)},
    )
    def post(self, request: Request, send_id: str) -> Response:
        """Try failed recipients again, or what waits now."""
        check_may_send(self.project)
        send = self.own_send(send_id)
        fields = self.fields()
        send_after = fields.integer("send_after")
        recipient_ids = fields.integers("recipient_ids", most=MAX_RECIPIENT_IDS)
        fields.check()
        try:
            retried = retry(send, datetime.now(UTC), send_after, recipient_ids)
        except RetryRefused as refused:
            raise ApiError(400, str(refused)) from None
        return Response({"retried_recipients": retried, "send": full_send_object(send, datetime.now(UTC))})


class CancelView(SendEndpoint):
    """`/sends/{id}/cancel`."""

    section = "Sends"
    required_scope = by_method(POST=Scope.SENDS_SEND)

    @describe(
        "cancelSend",
        "Cancel a send",
        "Takes back what has not left. What is in conversation just now is left alone; asking again changes nothing.",
        body=CANCEL,
        answer=CANCELLED,
    )
    def post(self, request: Request, send_id: str) -> Response:
        """End what waits as `cancelled`."""
        send = self.own_send(send_id)
        fields = self.fields()
        reason = fields.text("reason")
        fields.check()
        found = cancel_by(send, reason or "", self.caller)
        counts = {"cancelled_recipients": found.cancelled, "in_flight_recipients": found.in_flight}
        return Response({**counts, "send": full_send_object(send, datetime.now(UTC))})


class RescheduleView(SendEndpoint):
    """`/sends/{id}/reschedule`."""

    section = "Sends"
    required_scope = by_method(POST=Scope.SENDS_SEND)

    @describe(
        "rescheduleSend",
        "Move the time of a send",
        "Before its first try. Date and signature move with it.",
        body=RESCHEDULE,
        answer=RESCHEDULED,
        refusals={400: (NOTHING_WAITS, WAS_TRIED, AHEAD)},
    )
    def post(self, request: Request, send_id: str) -> Response:
        """Let it wait until then."""
        send = self.own_send(send_id)
        fields = self.fields()
        send_after = fields.integer("send_after", required=True)
        if send_after is not None and send_after < 0:
            fields.note("send_after", "This value should be a time in Unix seconds.")
        fields.check()
        assert send_after is not None  # check() has seen to it
        now = datetime.now(UTC)
        try:
            moved = reschedule(send, send_after, now)
        except RescheduleRefused as refused:
            raise ApiError(400, str(refused)) from None
        return Response({"rescheduled_recipients": moved, "send": full_send_object(send, now)})


class SendByUuidView(Endpoint):
    """`/sends/uuid/{uuid}`."""

    section = "Sends"
    required_scope = by_method(GET=Scope.SENDS_READ)

    @describe("getSendByUuid", "Get a send by its uuid", answer=SEND, refusals=NO_SUCH_UUID)
    def get(self, request: Request, send_uuid: str) -> Response:
        """One send with its attempts."""
        return Response(full_send_object(self.send(send_uuid), datetime.now(UTC)))

    def send(self, raw: str) -> Send:
        """The project's send with that uuid, found by the id inside it; raises ApiError 404 or 400."""
        shown = raw[:64]
        send = find_by_uuid(raw)
        if send is None:
            raise ApiError(404, f"Send with UUID {shown} not found")
        if send.project_id != self.project.pk:
            raise ApiError(400, f"Send with UUID {shown} does not belong to project")
        return send


class ContentView(SendByUuidView):
    """`/sends/uuid/{uuid}/content`."""

    @describe(
        "getSendContent",
        "Get what was sent",
        answer=SEND_CONTENT,
        refusals={
            **NO_SUCH_UUID,
            404: (*NO_SUCH_UUID[404], "Content for send with UUID … not found: it is no longer kept"),
        },
    )
    def get(self, request: Request, send_uuid: str) -> Response:
        """What was sent: the parts as given, and the message byte for byte."""
        send = self.send(send_uuid)
        stored, raw = stored_message(send), raw_message(send)
        if stored is None or raw is None:
            raise ApiError(404, f"Content for send with UUID {send.uuid} not found: it is no longer kept")
        note_content_view(self.caller, send, datetime.now(UTC))
        return Response(content_object(stored, raw))


def find_by_uuid(raw: str) -> Send | None:
    """Anybody's send with that uuid; None where there is none."""
    try:
        wanted = uuid.UUID(raw)
    except ValueError:
        return None
    send_id = id_of_uuid(wanted)
    return None if send_id is None else Send.objects.filter(pk=send_id, uuid=wanted).first()


def read_filter(query: Mapping[str, Any]) -> SendFilter:
    """What a query looks for. A status that does not exist is ignored, as the contract has it."""
    status = read_text(query, "status")
    return SendFilter(
        status=status if status in RecipientStatus.values else None,
        from_text=read_text(query, "from_search"),
        to_text=read_text(query, "to_search"),
        subject_text=read_text(query, "subject_search", 998),
        date_from=read_moment(query, "date_from_search", is_end=False),
        date_to=read_moment(query, "date_to_search", is_end=True),
        is_case_sensitive=True,
        from_address=read_text(query, "from"),
        to_address=read_text(query, "to"),
        tag=read_text(query, "tag"),
    )


def read_moment(query: Mapping[str, Any], name: str, *, is_end: bool) -> datetime | None:
    """A date or a time (UTC unless it says otherwise); an end includes the day or the second that it names."""
    raw = (read_text(query, name) or "").strip()
    if not raw:
        return None
    try:
        moment = datetime.fromisoformat(raw)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if is_end:
            moment += timedelta(days=1) if len(raw) <= len("2026-11-22") else timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise violation(name, DATE) from None
    return moment
