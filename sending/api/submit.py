"""`POST /sends`: authentication, scope, rate and idempotency header, then the body, then accept().

A plain view instead of DRF's, which costs more than accepting the mail does; the same authentication, limits and errors.
"""

import hashlib
import unicodedata
from datetime import UTC, datetime

import orjson
from django.http import HttpRequest, HttpResponse

from projects.authentication import caller_of
from projects.life import check_may_send
from projects.limits import recipients_per_send
from projects.models import Project
from projects.permissions import check_scope
from projects.scopes import Scope
from projects.throttle import use_sends
from relay_project.web.body import check_length, read_object
from relay_project.web.describe import describe
from relay_project.web.errors import ApiError, answer_error, violation
from sending.accept.accept import accept, check
from sending.accept.idempotency import BUSY, MAX_KEY, OTHER_BODY
from sending.accept.request import Accepted, Refused
from sending.api.message import SubmittedMessage, read_message
from sending.api.schemas import ACCEPTED, EXAMPLE_ACCEPTED, EXAMPLE_MESSAGE, IDEMPOTENCY_KEY, NEW_SEND

KEY_HEADERS = ("HTTP_X_IDEMPOTENCY_KEY", "HTTP_IDEMPOTENCY_KEY")  # the contract's, and what its client libraries send


@describe(
    "createSend",
    "Send a message",
    "When the answer is 200, message and recipients are in the database for good. A recipient on the suppression list "
    "does not change the answer: it ends as `suppressed` at once.",
    scope=Scope.SENDS_SEND,
    headers=IDEMPOTENCY_KEY,
    body=NEW_SEND,
    example=EXAMPLE_MESSAGE,
    answer=ACCEPTED,
    sample=EXAMPLE_ACCEPTED,
    answer_headers={"X-Idempotency-Short-Circuit": "`true` when this is the answer to an earlier request."},
    refusals={
        400: (
            "Domain … is not registered for this project",
            "Domain … is not allowed to send emails (status: pending)",
            "Total number of recipients (To, Cc, Bcc) exceeds the maximum allowed limit of 20.",
            "Base64 decoding of attachment failed: index 0",
            "Email size exceeds the maximum allowed size of 10MB.",
        ),
        409: (OTHER_BODY, BUSY),
        411: ("A Content-Length is required.",),
    },
)
def submit(request: HttpRequest) -> HttpResponse:
    """The view; it is CSRF-exempt because caller_of() enforces the token where there is a session."""
    try:
        return _answer(_submit(request, datetime.now(UTC)))
    except Exception as error:  # noqa: BLE001 — becomes an answer; what nobody meant to raise is logged there
        return answer_error(error, request)


def _submit(request: HttpRequest, now: datetime) -> Accepted:
    check_length(request)
    caller = caller_of(request)
    check_scope(caller, Scope.SENDS_SEND)
    assert caller.project is not None  # at project level there is always one
    check_may_send(caller.project)
    use_sends(request, caller)
    key = read_idempotency_key(request)
    raw, body = read_object(request)
    is_test = caller.is_test
    fingerprint = fingerprint_of(raw, is_test) if key else ""
    message = read_message(body, key, fingerprint, recipients_per_send(caller.project), is_test=is_test)
    try:
        return _accept(caller.project, message, now)
    except Refused as refused:
        raise refusal_of(refused) from None


def fingerprint_of(raw: bytes, is_test: bool) -> str:
    """Of a body; with a test key it asks for something else than with a real one."""
    return hashlib.sha256(b"test\0" + raw if is_test else raw).hexdigest()


def _accept(project: Project, message: SubmittedMessage, now: datetime) -> Accepted:
    if message.undecodable is not None:
        check(project, message.request, now)  # the contract's order: domain and recipients are refused before this
        raise undecodable(message.undecodable)
    return accept(project, message.request, now)


def read_idempotency_key(request: HttpRequest) -> str | None:
    """The key of either header, trimmed, None when empty; raises ApiError 400 for one that could not be kept."""
    keys = (request.META.get(header, "").strip() for header in KEY_HEADERS)
    raw = next(filter(None, keys), None)
    if raw is None:
        return None
    try:
        key: str = raw.encode("latin-1").decode()  # WSGI gives octets as Latin-1 (PEP 3333); clients write UTF-8
    except UnicodeError:
        key = ""
    if not key or len(key) > MAX_KEY or any(unicodedata.category(char) == "Cc" for char in key):
        raise ApiError(400, f"The idempotency key must be UTF-8 text of at most {MAX_KEY} characters.")
    return key


def undecodable(index: int) -> ApiError:
    """The refusal of a file that is no base64."""
    return ApiError(400, f"Base64 decoding of attachment failed: index {index}")


def refusal_of(refused: Refused) -> ApiError:
    """A rule's refusal in the API's shape: of a field as a violation when the contract says 422."""
    if refused.status == 422:
        return violation(refused.field or "", refused.message)
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return ApiError(refused.status, refused.message, headers=headers)


def _answer(accepted: Accepted) -> HttpResponse:
    headers = {"X-Idempotency-Short-Circuit": "true"} if accepted.replayed else {}
    answer = {"id": accepted.send_id, "message_id": accepted.message_id}
    return HttpResponse(orjson.dumps(answer), content_type="application/json", headers=headers)
