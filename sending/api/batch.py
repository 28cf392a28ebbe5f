"""`POST /sends/batch`: many messages in one call and one transaction, over what they share, each with its own result.

The content that messages share is read and stored once; what a message puts in its place (`{{name}}`) are its variables.
One that is wrong is its own result, and never another's. Only a call that is none is refused as a whole.
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from projects.access import Caller
from projects.authentication import caller_of
from projects.endpoint import Endpoint
from projects.life import check_may_send
from projects.limits import recipients_per_send
from projects.permissions import check_scope
from projects.scopes import Scope
from projects.throttle import use_sends
from relay_project.mail.placeholders import MAX_VARIABLE, MAX_VARIABLES, NAME, has_placeholders
from relay_project.web.body import check_length, read_object
from relay_project.web.describe import describe, described_as
from relay_project.web.errors import ApiError, Violation, Violations, answer_error, violation
from relay_project.web.fields import BLANK, text_violation
from sending.accept.accept import accept_batch
from sending.accept.admit import Outcome
from sending.accept.idempotency import BUSY, MAX_KEY, OTHER_BODY, Replay, Whole
from sending.accept.request import Refused, SendRequest
from sending.api.message import CONTENT_FIELDS, Body, ReadContent, read_content, read_message
from sending.api.schemas import BATCH_ACCEPTED, EXAMPLE_BATCH, EXAMPLE_RESULTS, IDEMPOTENCY_KEY, NEW_BATCH
from sending.api.submit import fingerprint_of, read_idempotency_key, refusal_of, undecodable

MERGED = ("headers", "metadata", "variables")  # maps: a message's own names come over the shared ones
PARTS = ("body_html", "body_text", "attachments")  # one of them at the top makes a content that can be shared
NOT_A_NAME = (
    "A variable's name has letters, digits and _ . - only, begins with a letter, and has at most 64 characters."
)
NOT_A_VALUE = "This value should be of type string|int|float."
NOT_A_KEY = f"The idempotency key must be text of at most {MAX_KEY} characters."

Result = dict[str, Any]


@describe(
    "createSends",
    "Send up to 1,000 messages",
    "Over what they share: every field beside `messages` holds for those that do not have it themselves, and `{{name}}` in "
    "subject, bodies and header fields becomes a message's own variable. Each message has its own result, in their order; "
    "one that is refused does not stop the others.",
    scope=Scope.SENDS_SEND,
    headers=IDEMPOTENCY_KEY,
    body=NEW_BATCH,
    example=EXAMPLE_BATCH,
    answer=BATCH_ACCEPTED,
    sample=EXAMPLE_RESULTS,
    answer_headers={"X-Idempotency-Short-Circuit": "`true` when this is the answer to an earlier request."},
    refusals={
        400: ("Base64 decoding of attachment failed: index 0",),
        409: (OTHER_BODY, BUSY),
        411: ("A Content-Length is required.",),
    },
)
def submit_batch(request: HttpRequest) -> HttpResponse:
    """POST; the view is CSRF-exempt because caller_of() enforces the token where there is a session."""
    try:
        return _submit(request, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 — becomes an answer; what nobody meant to raise is logged there
        return answer_error(error, request)


class BatchView(Endpoint):
    """`/sends/batch`, all methods but POST."""

    section = "Sends"

    @property
    def allowed_methods(self) -> list[str]:
        """What `Allow` names."""
        return ["POST"]


_others = BatchView.as_view()


@csrf_exempt
@described_as(BatchView, post=submit_batch)
def batch(request: HttpRequest) -> HttpResponse:
    """`/sends/batch`: POST goes the short way."""
    return submit_batch(request) if request.method == "POST" else _others(request)


def _submit(request: HttpRequest, now: datetime) -> HttpResponse:
    check_length(request, settings.MAX_BATCH_REQUEST_BYTES)
    caller = caller_of(request)
    check_scope(caller, Scope.SENDS_SEND)
    assert caller.project is not None  # at project level there is always one
    check_may_send(caller.project)
    key = read_idempotency_key(request)
    raw, body = _read(request, caller)
    fingerprint = fingerprint_of(b"batch\0" + raw, caller.is_test) if key else ""
    return _accept(caller, Batch.of(body), now, key, fingerprint)


def _read(request: HttpRequest, caller: Caller) -> tuple[bytes, dict[str, Any]]:
    """The body; its messages count against the project's limits, and a body that cannot be read counts as one."""
    try:
        raw, body = read_object(request, settings.MAX_BATCH_REQUEST_BYTES)
    except ApiError:
        use_sends(request, caller)
        raise
    messages = body.get("messages")
    count = len(messages) if isinstance(messages, list) else 1
    use_sends(request, caller, min(max(count, 1), settings.MAX_BATCH_MESSAGES))
    return raw, body


def _accept(caller: Caller, batch: "Batch", now: datetime, key: str | None, fingerprint: str) -> HttpResponse:
    assert caller.project is not None  # at project level there is always one
    most = recipients_per_send(caller.project)
    refused: dict[int, Result] = {}
    requests: dict[int, SendRequest] = {}
    for place, message in enumerate(batch.messages):
        try:
            requests[place] = batch.request_of(message, most, caller.is_test)
        except ApiError as error:
            refused[place] = error.body()
    results = partial(_results, refused, list(requests))
    whole = None if key is None else Whole((caller.project.pk, key), fingerprint, results)
    try:
        outcomes = accept_batch(caller.project, list(requests.values()), now, whole)
    except Refused as refusal:
        raise refusal_of(refusal) from None
    if isinstance(outcomes, Replay):
        return _answer(outcomes.answer, {"X-Idempotency-Short-Circuit": "true"})
    return _answer(results(outcomes), {})


def _results(refused: Mapping[int, Result], places: Sequence[int], outcomes: Sequence[Outcome]) -> list[Result]:
    """What each message gets, in their order: what was wrong with its shape, or what accept() made of it."""
    found = {**refused, **{place: _result(outcome) for place, outcome in zip(places, outcomes, strict=True)}}
    return [found[place] for place in range(len(found))]


def _result(outcome: Outcome) -> Result:
    if isinstance(outcome, Refused):
        return refusal_of(outcome).body()
    result: Result = {"status": 200, "id": outcome.send_id, "message_id": outcome.message_id}
    return {**result, "replayed": True} if outcome.replayed else result


def _answer(results: Sequence[Result], headers: Mapping[str, str]) -> HttpResponse:
    accepted = sum(result["status"] == 200 for result in results)
    body = {"accepted": accepted, "refused": len(results) - accepted, "results": results}
    return HttpResponse(orjson.dumps(body), content_type="application/json", headers=headers)


@dataclass(frozen=True, slots=True)
class Batch:
    """A call's body: what its messages share, and these as they came."""

    shared: Mapping[str, Any]
    light: Mapping[str, Any]  # of what is shared all but the content
    content: ReadContent | None  # what is shared of it, read once; None: each message brings its own
    messages: Sequence[Any]
    digest: bytes  # of what is shared

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Batch":
        """Check what concerns all messages; raises Violations, and ApiError for a file that is no base64."""
        messages = body.get("messages")
        if messages is None or messages == []:
            raise violation("messages", BLANK)
        if not isinstance(messages, list):
            raise violation("messages", "This value should be of type array.")
        if len(messages) > settings.MAX_BATCH_MESSAGES:
            most = settings.MAX_BATCH_MESSAGES
            raise violation("messages", f"This collection should contain {most} elements or less.")
        shared = {name: value for name, value in body.items() if name not in ("messages", "idempotency_key")}
        _check_maps(shared)
        light = {name: value for name, value in shared.items() if name not in CONTENT_FIELDS}
        return cls(shared, light, _read_shared(shared), messages, _digest(shared))

    def request_of(self, message: Any, most_recipients: int, is_test: bool) -> SendRequest:
        """One message with what it shares; raises ApiError."""
        if not isinstance(message, dict):
            raise violation("", "A message must be a JSON object.")
        _check_maps(message)
        shares = self.content is not None and not any(name in message for name in CONTENT_FIELDS)
        data = _merged(self.light if shares else self.shared, message)
        key = _read_key(message)
        fingerprint = fingerprint_of(b"message\0" + self.digest + _digest(message), is_test) if key else ""
        content = self.content if shares else None
        read = read_message(data, key, fingerprint, most_recipients, is_test=is_test, content=content)
        if read.undecodable is not None:
            raise undecodable(read.undecodable)
        request = replace(read.request, shares=0) if shares else read.request
        return replace(request, variables=_variables(data)) if _is_personal(request) else request


def _digest(data: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).digest()


def _read_shared(shared: Mapping[str, Any]) -> ReadContent | None:
    if all(shared.get(name) in (None, "", []) for name in PARTS):
        return None
    body = Body(shared)
    content = read_content(body)
    if body.violations:
        raise Violations(body.violations)
    if content.undecodable is not None:
        raise undecodable(content.undecodable)
    return content


def _merged(shared: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    """A message over what it shares; maps name by name."""
    data = {**shared, **message}
    for name in MERGED:
        ours, own = shared.get(name), message.get(name)
        if ours and isinstance(ours, dict) and isinstance(own, dict):
            data[name] = {**ours, **own}
    return data


def _is_personal(request: SendRequest) -> bool:
    """Whether there is anything to fill in; a customer's own MIME is theirs to fill in."""
    if request.raw is not None:
        return False
    texts = (request.subject, request.body_text, request.body_html)
    return any(map(has_placeholders, texts)) or any(has_placeholders(value) for _, value in request.headers)


def _variables(data: Mapping[str, Any]) -> dict[str, str]:
    """The values as texts; raises Violations. Their names and values have been looked at."""
    variables = data.get("variables") or {}
    if len(variables) > MAX_VARIABLES:
        raise violation("variables", f"This collection should contain {MAX_VARIABLES} elements or less.")
    return {name: value if isinstance(value, str) else str(value) for name, value in variables.items()}


def _check_maps(data: Mapping[str, Any]) -> None:
    """The variables of a message, or of all; raises Violations."""
    variables = data.get("variables")
    if not variables:
        return
    if not isinstance(variables, dict):
        raise violation("variables", "This value should be of type array.")
    wrong = [
        Violation(f"variables[{name[:100]}]", message)
        for name, value in variables.items()
        if (message := _variable_violation(name, value))
    ]
    if wrong:
        raise Violations(wrong)


def _variable_violation(name: str, value: object) -> str | None:
    if not NAME.fullmatch(name):
        return NOT_A_NAME
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None
    if not isinstance(value, str):
        return NOT_A_VALUE
    return text_violation(value, required=False, maximum=MAX_VARIABLE)


def _read_key(message: Mapping[str, Any]) -> str | None:
    value = message.get("idempotency_key")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_KEY or any(unicodedata.category(char) == "Cc" for char in value):
        raise violation("idempotency_key", NOT_A_KEY)
    return value.strip() or None
