"""What a refusal of the API is called in SMTP: a reply with its enhanced code (RFC 3463), the field and the rule on one line.

Whatever may succeed later is 4xx (lesson C19: a rate limit is no permanent error), all else 5xx.
"""

from collections.abc import Mapping
from types import MappingProxyType

from relay_project.net.smtp_server.model import SmtpReply
from relay_project.web.errors import ApiError, Violations
from sending.accept.idempotency import BUSY
from sending.accept.request import Accepted, Refused, TooLarge, TooManyRecipients

LATER = SmtpReply(451, "4.3.0", "The service is temporarily unavailable. Please try again.")
SIGN_IN = SmtpReply(530, "5.7.0", "Authentication required: the password is an API key")

IN_FLIGHT = SmtpReply(451, "4.3.0", BUSY)

# Of 403 and the like there is no reply of its own: policy.
_POLICY = (550, "5.7.1")
_BY_STATUS: Mapping[int, tuple[int, str]] = MappingProxyType(
    {400: _POLICY, 401: _POLICY, 403: _POLICY, 409: (554, "5.5.0"), 413: (552, "5.3.4"), 422: (554, "5.6.0")}
)
_FIELDS = {
    "tags": "X-Relay-Tags",
    "metadata": "X-Relay-Metadata",
    "send_after": "X-Relay-Send-After",
    "priority": "X-Relay-Priority",
    "list": "X-Relay-List",
    "list_unsubscribe": "X-Relay-List-Unsubscribe",
    "to": "recipients",
    "raw": "message",
}


def taken(accepted: Accepted) -> SmtpReply:
    """With the send's id, by which the API and the console know it."""
    word = "already queued" if accepted.replayed else "queued"
    return SmtpReply(250, "2.0.0", f"Ok: {word} as {accepted.send_id}")


def login_refused(error: ApiError) -> SmtpReply:
    """At AUTH: who guesses too much waits (RFC 4954 §6), all else is 535."""
    if error.status == 429:
        return SmtpReply(454, "4.7.0", error.message)
    return SmtpReply(535, "5.7.8", error.message)


def refused(error: ApiError | Refused) -> SmtpReply:
    """At the end of the data."""
    if _is_later(error):
        code, enhanced = (451, "4.7.1") if error.status == 429 else (451, "4.3.0")
    elif isinstance(error, TooLarge):
        code, enhanced = _BY_STATUS[413]
    elif isinstance(error, TooManyRecipients):
        code, enhanced = 554, "5.5.3"
    else:
        code, enhanced = _BY_STATUS.get(error.status, _POLICY)
    return SmtpReply(code, enhanced, _sentence(error))


def _is_later(error: ApiError | Refused) -> bool:
    waits = error.retry_after is not None if isinstance(error, Refused) else "Retry-After" in error.headers
    return error.status == 429 or error.status >= 500 or waits


def _sentence(error: ApiError | Refused) -> str:
    """Every field that is wrong, with its rule."""
    if isinstance(error, Violations):
        wrong = [(violation.property, violation.message) for violation in error.violations]
    elif isinstance(error, Refused) and error.status == 422 and error.field:
        wrong = [(error.field, error.message)]
    else:
        return error.message
    return "; ".join(f"{_field(name)}: {message}" if name else message for name, message in wrong)


def _field(name: str) -> str:
    first, bracket, rest = name.partition("[")
    return f"{_FIELDS.get(first, first)}{bracket}{rest}"
