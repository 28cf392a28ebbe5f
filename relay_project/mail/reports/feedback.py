"""Complaints: feedback reports (ARF, RFC 5965, 6430, 6591), and what providers send in their place.

A feedback part may be mislabelled, and lack every field; Microsoft's loop has none at all, SpamCop writes prose. Who
complained is what a field says, else the original mail's own header; many providers hide it (RFC 6590), and then only
the return path's token tells which mail it was.
"""

import re
from collections.abc import Iterable
from email.message import Message
from typing import NamedTuple

from relay_project.mail.reports.facts import Feedback, FeedbackType
from relay_project.mail.reports.message import decoded, header, headers_in, leaves
from relay_project.mail.reports.model import Action, Original, Report, ReportedRecipient, ReportKind
from relay_project.mail.reports.original import tokens_of
from relay_project.mail.reports.values import count_of
from relay_project.mail.text import clean

MAX_RECIPIENTS = 50  # of one report
MAX_ADDRESS = 254  # octets, RFC 5321 §4.5.3.1.3
MAX_NAME = 255  # characters of other fields
MAX_INCIDENTS = 1_000_000

Fields = list[tuple[str, str]]

_ADDRESS = re.compile(r"[^\s<>\"'(),;:@\[\]]{1,64}@[^\s<>\"'(),;:@\[\]]{1,253}")
_HIDDEN = re.compile(r"\A[<\[*]*(?:redacted|undisclosed|hashed|hidden|removed|x{3,}|\*+)\b", re.IGNORECASE)

_TYPES = {kind.value: kind for kind in FeedbackType} | {
    "": FeedbackType.ABUSE,  # the field is required, but the report says itself what it is
    "complaint": FeedbackType.ABUSE,
    "spam": FeedbackType.ABUSE,
    "phishing": FeedbackType.FRAUD,
    "malware": FeedbackType.VIRUS,
    "opt-out-list": FeedbackType.OPT_OUT,
    "notspam": FeedbackType.NOT_SPAM,
    "dkim": FeedbackType.AUTH_FAILURE,  # of drafts of RFC 5965
}
# Fields of a feedback part that name who complained, then those of an original, the provider's own first.
_NAMES = ("original-rcpt-to", "removal-recipient", "original-recipient", "final-recipient", "x-hmxmroriginalrecipient")
_STAMPED = ("x-hmxmroriginalrecipient", "x-original-rcpt-to", "x-rcpt-to")
_DELIVERED = ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to")
_ORIGINAL = frozenset({"received", "message-id", "from", "subject", "date", "to", "dkim-signature", "return-path"})
_IS_ORIGINAL = 2  # of these fields at least

# Who sends complaints in prose with the mail itself attached, and what they call them.
_REPORTER = re.compile(
    r"(?:\b|_)(?:fbl|feedback|feedback-?loops?|arf|abuse|complaints?|spam-?reports?|abuse-?reports?|scomp|antispam)(?:\b|_)[^@]*@"
    r"|staff@hotmail\.com|@(?:[\w-]+\.)*(?:spamcop\.net|abusix\.(?:com|org))\b",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"complaint about message from|\b(?:abuse|spam|uce|ube|phishing)[ -](?:e-?mail )?(?:report|complaint)|\A\[spamcop\b"
    r"|report(?:ed|ing)? (?:as|of|for) (?:spam|abuse)|\bspamtrap ?hit|\bfeedback[ -]loop\b|\bfeedback report\b",
    re.IGNORECASE,
)
_DMARC_FAILURE = re.compile(r"\bdmarc (?:forensic|(?:authentication )?failure) report\b", re.IGNORECASE)
_SPAMCOP = re.compile(r"\[ ?offending message ?\][ \t]*\n", re.IGNORECASE)
_DAEMON = re.compile(r"\b(?:mailer-daemon|postmaster|mail delivery)\b", re.IGNORECASE)


class _Part(NamedTuple):
    kind: str
    text: str
    fields: Fields


def read_feedback(message: Message) -> Report | None:
    """What a feedback report says, or a complaint without one; None for any other mail.

    Feedback that is no complaint (not-spam, auth-failure) is a report of no kind, with its feedback.
    """
    parts = [
        _Part(part.get_content_type(), text, headers_in(text)) for part in leaves(message) if (text := decoded(part))
    ]
    said = next((part for part in parts if _is_feedback(part)), None)
    if said is not None:
        originals = [part for part in parts if part is not said and _is_original(part)]
        return _report(said.fields, originals[-1].fields if originals else [], message)
    if _DMARC_FAILURE.search(header(message, "Subject")[:MAX_NAME]):  # some have no feedback part
        return Report(ReportKind.NONE, feedback=Feedback(FeedbackType.AUTH_FAILURE, auth_failure="dmarc"))
    original = _complained_of(message, parts)
    return None if original is None else _report([], original, message)


def _is_feedback(part: _Part) -> bool:
    """By its type, or by its first fields whatever it is called; a forwarded report inside of a mail is not one."""
    names = {name.lower() for name, _ in part.fields}
    if part.kind == "message/feedback-report":
        return True
    return (
        "feedback-type" in names
        and not part.kind.startswith(("message/rfc822", "message/global"))
        and "received" not in names
    )


def _is_original(part: _Part) -> bool:
    return len(_ORIGINAL & {name.lower() for name, _ in part.fields}) >= _IS_ORIGINAL


def _complained_of(message: Message, parts: list[_Part]) -> Fields | None:
    """The header of the mail that a complaint without a feedback part is about; None when it is no complaint."""
    sender, subject = header(message, "From")[:MAX_NAME], header(message, "Subject")[:MAX_NAME]
    if _DAEMON.search(sender) or any(part.kind.endswith("/delivery-status") for part in parts):
        return None
    attached = [
        part.fields for part in parts if part.kind.startswith(("message/", "text/rfc822")) and _is_original(part)
    ]
    for fields in attached:
        if _first(fields, "x-hmxmroriginalrecipient"):
            return fields
    if header(message, "Auto-Submitted").lower().startswith("auto-replied"):
        return None
    if not (
        _REPORTER.search(sender) or _TITLE.search(subject) or header(message, "X-XARF") or header(message, "X-ARF")
    ):
        return None
    return attached[-1] if attached else _quoted_by_spamcop(parts)


def _quoted_by_spamcop(parts: list[_Part]) -> Fields | None:
    for part in parts:
        if match := _SPAMCOP.search(part.text):
            return headers_in(part.text[match.end() :])
    return None


def _report(said: Fields, original: Fields, message: Message) -> Report:
    feedback = _feedback(said, original, header(message, "Subject"))
    addresses = _complainants(said, original)
    return Report(
        kind=ReportKind.COMPLAINT if feedback.type.is_complaint else ReportKind.NONE,
        recipients=tuple(
            # they complain about what arrived
            ReportedRecipient(address, reason=str(feedback.type), action=Action.DELIVERED)
            for address in addresses
        ),
        original=_original(said, original, message),
        feedback=feedback,
        reporting_mta=_first(said, "reporting-mta").rpartition(";")[2].strip()[:MAX_NAME],
    )


def _feedback(said: Fields, original: Fields, subject: str) -> Feedback:
    named = _first(said, "feedback-type").partition(";")[0].strip().lower()
    from_subject = re.search(r"message from (\S{3,45})", subject)
    source_ip = (
        _first(said, "source-ip") or (from_subject[1] if from_subject else "") or _first(original, "x-source-ip")
    )
    return Feedback(
        type=_TYPES.get(named, FeedbackType.OTHER),  # RFC 5965 §3.5: what is unknown counts as other
        user_agent=_first(said, "user-agent")[:MAX_NAME],
        version=_first(said, "version")[:40],
        source_ip=source_ip.strip("[]<> ")[:45],
        reported_domains=tuple(value.lower()[:MAX_NAME] for value in _all(said, ["reported-domain"])[:10]),
        arrival_date=(_first(said, "arrival-date") or _first(said, "received-date"))[:100],
        incidents=min(max(count_of(_first(said, "incidents")), 1), MAX_INCIDENTS),
        auth_failure=_first(said, "auth-failure").lower()[:40],
        delivery_result=_first(said, "delivery-result").lower()[:40],
        is_redacted=not _complainants(said, original),
    )


def _complainants(said: Fields, original: Fields) -> list[str]:
    """Who complained, as far as anybody says it. Of several in To nobody knows which one it was."""
    for fields, name in [*((said, name) for name in _NAMES), *((original, name) for name in _STAMPED)]:
        if found := _addresses(_all(fields, [name])):
            return found
    addressed = _addresses(_all(original, ["to", "cc"]))
    if len(addressed) == 1:
        return addressed
    return _addresses(_all(original, _DELIVERED))[:1]


def _original(said: Fields, original: Fields, message: Message) -> Original:
    path = _first(said, "original-mail-from") or _first(original, "return-path")
    return Original(
        message_id=_first(original, "message-id").strip("<> ")[:MAX_NAME],
        envelope_id=_first(said, "original-envelope-id").strip("<> ")[:MAX_NAME],
        return_path=next(iter(_addresses([path])), ""),
        recipients=tuple(_addresses(_all(original, ["to", "cc"]))),
        subject=_first(original, "subject")[:MAX_NAME],
        date=_first(original, "date")[:100],
        tokens=tokens_of(message),
    )


def _first(fields: Fields, name: str) -> str:
    return next((value.strip() for field, value in fields if field.lower() == name), "")


def _all(fields: Fields, names: Iterable[str]) -> list[str]:
    """Every value of these fields, in the order of the names."""
    return [value.strip() for name in names for field, value in fields if field.lower() == name]


def _addresses(values: Iterable[str]) -> list[str]:
    """The addresses in them, each once; hidden ones are none."""
    found = dict.fromkeys(
        clean(match, MAX_ADDRESS).strip(".")
        for value in values
        for match in _ADDRESS.findall(value)
        if not any(_HIDDEN.match(half) for half in match.split("@"))
    )
    return list(found)[:MAX_RECIPIENTS]
