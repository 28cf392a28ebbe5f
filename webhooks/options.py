"""What may hang on a webhook beside its URL: headers of its own, and which events: by kind, by tag and by domain.

Which events are also asked of mailboxes. Pure. Raises Violations that name the field, and the item in it.
"""

import re
from collections.abc import Iterable, Mapping

from projects.event_registry import kinds_for
from projects.events import EventKind
from projects.models import Project
from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.web.errors import Violation, Violations
from relay_project.web.fields import BLANK, NOT_A_CHOICE

MAX_HEADERS = 20
MAX_NAME = 100  # characters
MAX_VALUE = 1000  # characters; a bearer token fits, and a few KB is all that servers take of headers together
MAX_TAGS = 20
MAX_TAG = 64  # characters, the column's width
MAX_DOMAINS = 20

# Ours, and those that are the connection's own business (RFC 9110 §7.6.1, §7.2, §8.6).
RESERVED = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
        "x-signature", "x-signature-previous",
    }
)  # fmt: skip
OURS = "webhook-"  # Standard Webhooks'

NOT_A_NAME = "This is not a name for a header."
NOT_OURS = "Relay sets this header itself."
NOT_A_VALUE = "This value should be printable ASCII characters on one line."
NOT_THERE = "There is no such header whose value could stay."
ALL_KINDS = frozenset(kind.value for kind in EventKind)
OPERATORS = "Only the system project is told of this."
NOT_A_DOMAIN = "This value is not a valid domain."

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 §5.6.2
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def check_headers(wanted: Mapping[str, str | None], present: Mapping[str, str]) -> dict[str, str]:
    """The headers as they are sent; a value of None leaves the present one of that name, which nobody is shown."""
    if len(wanted) > MAX_HEADERS:
        raise Violations([Violation("headers", f"This collection should contain {MAX_HEADERS} elements or less.")])
    kept = {name.lower(): value for name, value in present.items()}
    found: dict[str, str] = {}
    wrong = []
    for name, value in wanted.items():
        value = kept.get(name.lower()) if value is None else value.strip(" \t")
        message = _wrong(name, value, {one.lower() for one in found})
        if message:
            wrong.append(Violation(f"headers[{name[:MAX_NAME]}]", message))
        else:
            found[name] = value or ""
    if wrong:
        raise Violations(wrong)
    return found


def _wrong(name: str, value: str | None, taken: set[str]) -> str:
    lower = name.lower()
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        return NOT_A_NAME
    if lower in RESERVED or lower.startswith(OURS):
        return NOT_OURS
    if lower in taken:
        return "This header is named twice."
    if value is None:
        return NOT_THERE
    if len(value) > MAX_VALUE:
        return f"This value is too long. It should have {MAX_VALUE} characters or less."
    return "" if _VALUE.fullmatch(value) else NOT_A_VALUE


def check_events(events: Iterable[str], project: Project, *, may_be_none: bool = False) -> list[str]:
    """Each kind once, in the order of EventKind; raises Violations at `events` or `events[i]`, also for the operator's."""
    wanted = list(events)
    known = [kind.value for kind in kinds_for(project.is_system)]
    wrong = [
        Violation(f"events[{at}]", OPERATORS if kind in ALL_KINDS else NOT_A_CHOICE)
        for at, kind in enumerate(wanted)
        if kind not in known
    ]
    if not (wanted or may_be_none):
        wrong = [Violation("events", BLANK)]
    if wrong:
        raise Violations(wrong)
    return [kind for kind in known if kind in wanted]


def check_tags(tags: Iterable[str]) -> list[str]:
    """Each once, as mail has them."""
    wanted = list(dict.fromkeys(tag.strip() for tag in tags))
    _check_count("tags", wanted, MAX_TAGS)
    wrong = [
        Violation(f"tags[{at}]", f"This value should be 1 to {MAX_TAG} printable characters.")
        for at, tag in enumerate(wanted)
        if not (0 < len(tag) <= MAX_TAG and tag.isprintable())
    ]
    if wrong:
        raise Violations(wrong)
    return wanted


def check_domains(domains: Iterable[str]) -> list[str]:
    """Each once, in its one spelling."""
    wanted = list(domains)
    _check_count("domains", wanted, MAX_DOMAINS)
    found: dict[str, None] = {}
    wrong = []
    for at, domain in enumerate(wanted):
        try:
            found[normalise_domain(domain.strip())] = None
        except InvalidDomain:
            wrong.append(Violation(f"domains[{at}]", NOT_A_DOMAIN))
    if wrong:
        raise Violations(wrong)
    return list(found)


def _check_count(name: str, items: list[str], most: int) -> None:
    if len(items) > most:
        raise Violations([Violation(name, f"This collection should contain {most} elements or less.")])
