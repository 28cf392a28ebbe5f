"""Delivery status notifications (RFC 3464, RFC 6533), as real servers send them. Raises nothing of its own.

read_delivery_status(message) -> Report | None: None when no part has the fields of a notification. Lesson C6: every line
end, case, comment and folding is met here, and all recipients are read.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message

from relay_project.mail.reports.auto_reply import ANSWER, DAEMON, MACHINE, is_from_nobody
from relay_project.mail.reports.classes import MAX_REASON, judge, status_in
from relay_project.mail.reports.message import decoded, header, is_text, leaves, octets_of, read_message, readable
from relay_project.mail.reports.model import Action, BounceClass, Original, Report, ReportedRecipient, ReportKind
from relay_project.mail.reports.original import is_returned, read_original
from relay_project.mail.text import clean

MAX_RECIPIENTS = 2000  # of one report
MAX_TOLD = 100  # of them, about whom the words for people are read; those of one recipient take some milliseconds
MAX_LINES = 40_000

Fields = dict[str, str]

_STATUS_TYPES = frozenset({"message/delivery-status", "message/global-delivery-status"})
_FIRST_FIELD = re.compile(
    r"^(?:reporting-mta|(?:final|original)-recipient|action)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_RECIPIENT_FIELD = re.compile(r"^(?:final|original)-recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
_RESULT_FIELD = re.compile(r"^(?:action|status|diagnostic-code)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)[ \t]*:[ \t]*")
_PLAIN_NAMES = frozenset({"action", "status"})
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_TYPE = re.compile(r"\s*(?:\([^()]*\)\s*)?([A-Za-z0-9-]{1,40})\s*;\s*")
_COMMENT = re.compile(r"\([^()]{0,200}\)")
_ANGLE = re.compile(r"<([^<>]*@[^<>]*)>")
_ADDRESS = re.compile(
    r"(?:\"[^\"]{1,64}\"|[^\s<>\"(),:;\[\]]{1,128})@(?:[^\s<>\"(),;:\[\]@]{1,255}|\[[0-9A-Fa-f.:IPv]{3,45}\])"
)
_UTF8_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 §3
_ESCAPED = re.compile(r"\+(2B|3D)")  # what xtext must escape, and nobody writes for itself
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 §4
_ABOUT_RECIPIENT = (
    "final-recipient",
    "original-recipient",
    "x-actual-recipient",
    "x-original-recipient",
    "x-final-recipient",
)
_BY_PREFERENCE = (
    "original-recipient",
    "final-recipient",
    "x-original-recipient",
    "x-final-recipient",
    "x-actual-recipient",
)
_ACTIONS = {
    "fail": Action.FAILED,
    "undeliver": Action.FAILED,
    "expire": Action.FAILED,
    "delay": Action.DELAYED,
    "warn": Action.DELAYED,
    "deliver": Action.DELIVERED,
    "relay": Action.RELAYED,
    "expand": Action.EXPANDED,
}
_SUCCESS = frozenset({Action.DELIVERED, Action.RELAYED, Action.EXPANDED})
_DELAY_WORDS = re.compile(r"\bdelay|warning|still (?:being )?(?:retried|trying)|not yet been delivered", re.IGNORECASE)
_WHAT_WAS_SAID = (
    "diagnostic-code",
    "x-supplementary-info",
    "x-smtp-diagnostic",
    "x-notes-item",
    "x-powermta-bouncecategory",
)


def read_delivery_status(message: Message) -> Report | None:
    """Read a notification; one that tells of success only is of kind none, with its recipients."""
    blocks = list(_blocks(message))
    if not blocks and (wrapped := _wrapped(message)):
        return read_delivery_status(wrapped)
    of_recipients = [fields for fields in blocks if any(name in fields for name in _ABOUT_RECIPIENT)]
    if not of_recipients or _is_quoted(message):
        return None
    of_message = {
        name: value for fields in reversed(blocks) for name, value in fields.items() if name not in _ABOUT_RECIPIENT
    }
    original = read_original(message, clean(of_message.get("original-envelope-id", ""), 500))
    words = _Words(_prose(message), is_only=len(of_recipients) == 1)
    recipients = _merged(_recipient(fields, original, words) for fields in of_recipients[:MAX_RECIPIENTS])
    failed = any(recipient.action not in _SUCCESS for recipient in recipients)
    reporting_mta = clean(_untyped(of_message.get("reporting-mta", "")), 255)
    kind = ReportKind.BOUNCE if failed else ReportKind.NONE
    return Report(kind, recipients, original, reporting_mta=reporting_mta)


def _is_quoted(message: Message) -> bool:
    """Whether a person shows somebody else's notification: pasted as text, or passed on without being one."""
    sender = header(message, "From")
    if message.get_content_type() == "multipart/report" or message.get_param("report-type"):
        return False
    if DAEMON.search(sender) or is_from_nobody(message) or "@" not in sender:
        return False
    is_typed = any(part.get_content_type() in _STATUS_TYPES for part in leaves(message))
    return bool(ANSWER.match(header(message, "Subject"))) or not (is_typed or MACHINE.search(sender))


def _merged(found: Iterable[ReportedRecipient]) -> tuple[ReportedRecipient, ...]:
    """Each address once, with the worst and clearest that is said of it."""
    kept: dict[str, ReportedRecipient] = {}
    for one in found:
        there = kept.setdefault(one.address.lower(), one)
        if _weight(one) > _weight(there):
            kept[one.address.lower()] = one
    return tuple(kept.values())


def _weight(one: ReportedRecipient) -> tuple[bool, bool, bool]:
    return one.action is Action.FAILED, one.action is Action.DELAYED, one.bounce_class is not BounceClass.UNKNOWN


def _wrapped(message: Message) -> Message | None:
    """The notification within a mail that calls itself one or comes from a mail system, as scanners pass it on; one deep."""
    if message.get_param("report-type") != "delivery-status" and not DAEMON.search(header(message, "From")):
        return None
    inner = next((read_message(octets_of(part)) for part in leaves(message) if is_returned(part)), None)
    return inner if inner and inner.get_param("report-type") and any(map(_status_text, leaves(inner))) else None


def action_of(value: str, status: str = "") -> Action:
    """The action by its first word, in any case; without one it follows from the status."""
    word = value.strip().lower()
    for beginning, action in _ACTIONS.items():
        if word.startswith(beginning):
            return action
    return Action.DELIVERED if not word and status.startswith("2") else Action.FAILED


def address_of(value: str) -> str:
    """The address in a field of RFC 3464 §2.3: without its type, comments and brackets; RFC 6533 escapes undone."""
    kind = _TYPE.match(value)
    rest = value[kind.end() :] if kind else value
    if "\\x{" in rest:
        rest = _UTF8_ESCAPE.sub(_character, rest)
    rest = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), rest)
    angle = _ANGLE.search(rest)
    found = _ADDRESS.search(angle[1] if angle else rest) or _ADDRESS.search(rest)
    if not found and "+40" in rest:
        found = _ADDRESS.search(_XTEXT.sub(lambda match: chr(int(match[1], 16)), rest))
    address = found[0].removeprefix("mailto:").strip("'`.") if found else ""
    return clean(address, 320)


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else "\ufffd"


def _blocks(message: Message) -> Iterator[Fields]:
    """The groups of fields of every status part."""
    for part in leaves(message):
        text = _status_text(part)
        if text:
            yield from _groups(text)


def _status_text(part: Message) -> str:
    """The text of a status part: by its type, or by the fields it has when it is mislabelled. Empty for other parts."""
    kind = part.get_content_type()
    if is_returned(part) or part.get_content_maintype() in ("image", "audio", "video"):
        return ""
    text = decoded(part)
    if any(name.lower() in _ABOUT_RECIPIENT for name in part.keys()):  # noqa: SIM118 — a Message iterates over values
        text = "\n".join(f"{name}: {' '.join(str(value).split())}" for name, value in part.raw_items()) + "\n" + text
    if kind not in _STATUS_TYPES and not _RESULT_FIELD.search(text):
        return ""
    return text if _RECIPIENT_FIELD.search(text) else ""


def _groups(text: str) -> Iterator[Fields]:
    """Fields between empty lines; where a field comes twice, the next recipient has begun without one."""
    fields: Fields = {}
    for name, value in _fields(text):
        begins_anew = name in fields and (name in _ABOUT_RECIPIENT or name in _PLAIN_NAMES)
        if begins_anew or (not name and not _is_open(fields)):
            if fields:
                yield fields
            fields = {}
        if name and name in fields:
            fields[name] += " " + value
        elif name:
            fields[name] = value
    if fields:
        yield fields


def _is_open(fields: Fields) -> bool:
    """Whether an empty line came amid a recipient's fields: nothing was said of it yet."""
    return any(name in fields for name in _ABOUT_RECIPIENT) and not fields.keys() & {
        "action",
        "status",
        "diagnostic-code",
    }


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """(name, value) with the name in lower case, and ("", "") for an empty line. What is no field continues the last."""
    name = ""
    lines: list[str] = []
    for line in text.split("\n", MAX_LINES)[:MAX_LINES]:
        match = _FIELD.match(line) if line[:1] not in (" ", "\t") else None
        if match and ("-" in match[1] or match[1].lower() in _PLAIN_NAMES):
            if name:
                yield name, " ".join(lines)
            name, lines = match[1].lower(), [line[match.end() :].strip()]
        elif not line.strip():
            if name:
                yield name, " ".join(lines)
            yield "", ""
            name, lines = "", []
        elif name and len(lines) < 100:
            lines.append(line.strip())
    if name:
        yield name, " ".join(lines)


class _Words:
    """The words for people, which are asked about one recipient after the other, MAX_TOLD times."""

    def __init__(self, prose: str, is_only: bool) -> None:
        self.is_only = is_only  # the report tells of one recipient
        self.tell_of_delay = bool(_DELAY_WORDS.search(prose[:2000]))
        self._prose = prose
        self._folded = prose.lower()
        self._left = MAX_TOLD

    def about(self, address: str) -> str:
        """What they say of an address: from where they name it, else all of them."""
        if not self._left:
            return ""
        self._left -= 1
        place = self._folded.find(address.lower()) if address else -1
        if place >= 0:
            return self._prose[max(0, self._prose.rfind("\n", 0, place)) : place + 1500]
        return self._prose[:3000] if self.is_only else ""


def _recipient(fields: Fields, original: Original, words: _Words) -> ReportedRecipient:
    """What the fields of one recipient say, and the words for people where the fields say nothing."""
    address = _recognised(fields, original, words.is_only)
    status = status_in(fields.get("status", ""))
    action = action_of(fields.get("action", ""), status)
    if "action" not in fields and action is Action.FAILED and words.tell_of_delay and not status.startswith("5"):
        action = Action.DELAYED
    diagnostic = " ".join(filter(None, (_untyped(fields.get(name, "")) for name in _WHAT_WAS_SAID)))
    beside = _beside(fields.get("status", ""))
    said = diagnostic or beside
    judgement = judge(f"{diagnostic} {beside}", status, action)
    if action in _SUCCESS:
        return ReportedRecipient(address, status, judgement.code, reason=clean(said, MAX_REASON), action=action)
    if judgement.is_vague:
        told = words.about(address)
        better = judge(told, status, action)
        if told and (not better.is_vague or judgement.bounce_class is BounceClass.UNKNOWN):
            judgement, said = better, said or told
    reason = clean(" ".join(said.split()), MAX_REASON)
    return ReportedRecipient(
        address,
        judgement.status,
        judgement.code,
        judgement.bounce_class,
        reason,
        action,
        judgement.rule,
        judgement.suppress,
    )


def _recognised(fields: Fields, original: Original, is_only: bool) -> str:
    """The address that the sender of the mail would know: one it was sent to, else the original, else the final one."""
    candidates = [address_of(fields[name]) for name in _BY_PREFERENCE if name in fields]
    sent_to = {address.lower(): address for address in original.recipients}
    known = next((address for address in candidates if address.lower() in sent_to), "")
    if known:
        return known
    if is_only and len(sent_to) == 1 and (not any(candidates) or _is_foreign(candidates)):
        return original.recipients[0]
    return next((address for address in candidates if address), "")


def _is_foreign(candidates: Sequence[str]) -> bool:
    """Whether an address is one of another mail system, wrapped (Exchange's IMCEA…)."""
    return all(address.upper().startswith("IMCEA") for address in candidates if address)


def _prose(message: Message) -> str:
    """The words for people: the first text that is no status, else what stands above the fields in the same part."""
    texts = [part for part in leaves(message) if is_text(part) and not is_returned(part)]
    for part in texts:
        if not _status_text(part):
            return readable(part)
    return _FIRST_FIELD.split(readable(texts[0]), maxsplit=1)[0] if texts else ""


def _beside(status: str) -> str:
    """What some write into the Status field beside the status: "5.0.0 (recipient reached disk quota)"."""
    words = _STATUS.sub("", status, count=1).strip(" ()-;,")
    return words if len(words) > 5 else ""


def _untyped(value: str) -> str:
    """A value without the type before its semicolon."""
    kind = _TYPE.match(value)
    return value[kind.end() :] if kind else value
