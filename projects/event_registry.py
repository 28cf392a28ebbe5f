"""The registry of what can happen: for each kind its subject, when it is written and what receivers are told.

docs/events.md (`manage.py events --write`), the console's forms and test calls are made from it.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from projects.event_examples import EXAMPLES
from projects.events import INSTANCE_KINDS, PAYLOAD_VERSION, EventKind

WIDTH = 112  # columns of an example
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_PIECES = re.compile(rf'(?:{_STRINGS.pattern}|[^",])+(?:, |$)')
BEGIN, END = "<!-- begin: written by `manage.py events --write` -->", "<!-- end -->"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "events.md"

# The names that clients of the system we take over from know, with the payloads that they know.
CONTRACT = frozenset(
    {
        EventKind.ACCEPTED,
        EventKind.DEFERRED,
        EventKind.FAILED,
        EventKind.BOUNCED,
        EventKind.COMPLAINED,
        EventKind.SUPPRESSED,
        EventKind.DOMAIN_CREATED,
        EventKind.DOMAIN_DELETED,
        EventKind.DOMAIN_STATUS_CHANGED,
        EventKind.SUPPRESSION_CREATED,
        EventKind.SUPPRESSION_DELETED,
    }
)


@dataclass(frozen=True, slots=True)
class Described:
    """A kind of event: `when` in Markdown for the page, `short` in a few words for a form; `note` is more of `when`."""

    kind: EventKind
    subject: str
    short: str
    when: str
    note: str = ""

    @property
    def payload(self) -> dict[str, Any]:
        """An example."""
        return EXAMPLES[self.kind]

    @property
    def is_ours(self) -> bool:
        """Whether it is an addition to the contract."""
        return self.kind not in CONTRACT


_ALL = (
    Described(
        EventKind.QUEUED,
        "send",
        "A mail was accepted and waits",
        "a mail was accepted and waits to leave, now or at its `send_after`",
        "Once for each send, whatever the number of its recipients; not for one whose recipients are all suppressed. `send` is "
        "what it is when the body is made, `send_after` what was asked for.",
    ),
    Described(
        EventKind.ACCEPTED,
        "send",
        "The receiving server took the mail",
        "the receiving server has taken the mail for this recipient",
    ),
    Described(
        EventKind.DEFERRED, "send", "A try failed, and another follows", "a try did not succeed, and another follows"
    ),
    Described(
        EventKind.BOUNCED,
        "send",
        "Refused for good",
        "the mail was refused for good, at once or by a [report](bounces.md)",
        'By a report it has `bounce` in place of `attempt`: `{"text": "No such mailbox here", "status": "5.1.1"}`.',
    ),
    Described(
        EventKind.COMPLAINED,
        "send",
        "The reader called it spam",
        "the recipient [reported the mail as spam](bounces.md)",
    ),
    Described(
        EventKind.FAILED,
        "send",
        "Given up after the last try",
        "given up after the last try, or when its [lifetime](delivery.md) was over",
    ),
    Described(
        EventKind.SUPPRESSED,
        "send",
        "The address is on the suppression list",
        "the address is on the project's suppression list, so nothing is sent to it",
    ),
    Described(
        EventKind.CANCELLED,
        "send",
        "Taken back before it left",
        "taken back before it left, with the reason that was given; also when staff purge a queue",
    ),
    Described(
        EventKind.DELAYED,
        "send",
        "Not there yet after hours",
        "it is late: it has waited for `DELAY_WARNING_HOURS`, or the receiving side's report says so",
        "Once for each recipient while it waits here, and once for each report of a delay; the recipient's status stays what "
        "it is. `delay.source` is `waiting` or `report`; a report has its enhanced status in `delay.status`.",
    ),
    Described(
        EventKind.SIMULATED,
        "send",
        "A try went to the simulator",
        "a try was answered by the [simulator](sandbox.md), as mail of test keys is; beside the event of the outcome",
    ),
    Described(
        EventKind.UNSUBSCRIBED,
        "send",
        "The reader used the unsubscribe link",
        "the recipient used the mail's [unsubscribe link](api.md#post-apiconsolesends)",
        "`list` is null for all mail of the project. `suppression.created` is written beside it.",
    ),
    Described(EventKind.DOMAIN_CREATED, "domain", "A domain was added", "a domain was registered"),
    Described(
        EventKind.DOMAIN_STATUS_CHANGED,
        "domain",
        "A domain may send, or may no longer",
        "its status moved, after a check or by staff",
    ),
    Described(
        EventKind.DOMAIN_DKIM_KEY_CHANGED,
        "domain",
        "A DKIM key was added, signs, or is replaced",
        "a [DKIM key](api.md#dkim-keys) of it was added, began or ended to sign, or was dropped, as in a rotation",
        "`old_state` or `new_state` is null before the key was, and after. `dkim_key` is that of [the API](api.md#dkim-keys).",
    ),
    Described(
        EventKind.DOMAIN_RETURN_PATH_CHANGED,
        "domain",
        "Its own return path is used, or is not",
        "a [return path](api.md#return-path) of its own was set, is used, is not used any more, or was taken away",
        "`old_status` or `new_status` is null for having none.",
    ),
    Described(EventKind.DOMAIN_DELETED, "domain", "A domain was deleted", "it was deleted"),
    Described(
        EventKind.SUPPRESSION_CREATED,
        "suppression",
        "An address was suppressed",
        "a bounce, days of soft bounces, a click on an unsubscribe link or a person put an address on the list",
        "By an unsubscribe link the `suppression` has the `send_id` and `recipient_id` of the mail as well.",
    ),
    Described(
        EventKind.SUPPRESSION_IMPORTED,
        "project",
        "Addresses came as a file",
        "a piece of an import (up to 10,000 lines) was written; in place of an event for each address",
        "`added` are new, `extended` have a later end now or none.",
    ),
    Described(
        EventKind.SUPPRESSION_DELETED,
        "suppression",
        "An address may get mail again",
        "a person, or the owner of the address, took it off again",
        "A row that reaches its end is no event: its `expires_at` was told when it was made.",
    ),
    Described(
        EventKind.INBOUND_RECEIVED,
        "inbound",
        "Mail came in for one of your routes",
        "a mail came for a [route](inbound.md) of the project, and DNS was asked about it",
        "The whole of it, with bodies cut at 50,000 characters, stands in [receiving mail](inbound.md#the-event).",
    ),
    Described(
        EventKind.INBOUND_FORWARDED,
        "inbound",
        "A route forwarded a mail, or could not",
        "a [route](inbound.md#forwarding) passed a mail on, or could not",
        "`forward.send_id` is the send by which it leaves; null, and `error` says why, where it was not passed on. What "
        "becomes of it at the addresses is told as of every send.",
    ),
    Described(
        EventKind.PROJECT_SUSPENDED,
        "project",
        "Staff let nothing of the project leave",
        "staff [stopped its mail](operating.md#suspend-and-archive)",
    ),
    Described(EventKind.PROJECT_RESUMED, "project", "Its mail leaves again", "its mail may leave again"),
    Described(EventKind.PROJECT_ARCHIVED, "project", "The project was put away", "it was put away"),
    Described(EventKind.PROJECT_RESTORED, "project", "The project is back", "it was brought back"),
    Described(
        EventKind.LIMIT_REACHED,
        "project",
        "A limit refused a request",
        "a [limit](api.md#rate-limits) refused a request",
        "Once for each hour or day that a limit of mails was reached in; for the limits of a second or a minute at most once "
        "an hour each. `resets_at` is when there is room again.",
    ),
    Described(
        EventKind.API_KEY_CREATED,
        "api_key",
        "An API key was made",
        "an [API key](api.md#api-keys) was made; its secret is in no event",
    ),
    Described(
        EventKind.API_KEY_ROTATED,
        "api_key",
        "An API key got another secret",
        "it got another secret",
        "`former_until`: how long the former secret works beside it; null when it ended at once.",
    ),
    Described(
        EventKind.API_KEY_REVOKED,
        "api_key",
        "An API key opens nothing any more",
        "it opens nothing any more",
        "`reason` is `deleted` or `disabled`. A key that reaches its end is no event: its `expires_at` was told when it was "
        "made.",
    ),
    Described(
        EventKind.WEBHOOK_DISABLED,
        "webhook",
        "A webhook is called no more",
        "a [webhook](api.md#webhooks) is called no more",
        "`reason` is `failing` (for days), `gone` (it answered 410) or `by hand`.",
    ),
    Described(
        EventKind.INCIDENT_OPENED,
        "incident",
        "Receivers complain of a source IP",
        "an [incident](classification.md#incidents) was opened",
        "Written for the system project, because it is the operator's: no other project can subscribe to it. Staff make "
        "themselves members of it in the admin, under Members, to have webhooks there.",
    ),
    Described(
        EventKind.INCIDENT_CLOSED,
        "incident",
        "An incident is over",
        "it was closed, by staff or by time",
        "Of the system project as well.",
    ),
)
REGISTRY = MappingProxyType({row.kind: row for row in _ALL})


def kinds_for(is_system: bool) -> list[EventKind]:
    """What a project can subscribe to, in the order of EventKind."""
    return [kind for kind in EventKind if is_system or kind not in INSTANCE_KINDS]


# --- The page --------------------------------------------------------------------------------------------------------


def page_text(present: str) -> str:
    """docs/events.md with what lies between BEGIN and END written anew; raises ValueError without those lines."""
    before, begin, rest = present.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The page has no lines {BEGIN} and {END}.")
    version = f"Every payload is of version {PAYLOAD_VERSION}."
    return f"{before}{BEGIN}\n\n{version}\n\n{_table()}\n{''.join(map(_section, _ALL))}{END}{after}"


def _table() -> str:
    rows = "".join(f"| `{row.kind.value}` | {row.subject} | {row.when}{_origin(row)} |\n" for row in _ALL)
    return f"| Kind | Subject | When |\n|---|---|---|\n{rows}"


def _origin(row: Described) -> str:
    return "; Relay's own addition" if row.is_ours else ""


def _section(row: Described) -> str:
    parts = [f"### {row.kind.value}", *filter(None, [row.note]), _indented(row.payload)]
    return "\n\n".join(parts) + "\n\n"


def _indented(payload: dict[str, Any]) -> str:
    """JSON that people read: each key in a line of its own, filled to the width and set in by its depth."""
    lines: list[str] = []
    items = list(payload.items())
    for at, (name, value) in enumerate(items):
        text = f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        lines += _filled(
            f"{{{text}" if at == 0 else text, f"{'}' if at == len(items) - 1 else ','}", 0 if at == 0 else 1
        )
    return "\n".join(f"    {line}" for line in lines)


def _filled(text: str, ending: str, depth: int) -> list[str]:
    """The text in lines of WIDTH, broken after commas that are in no string."""
    lines, line, inside = [], " " * depth, depth
    for piece in _PIECES.findall(text):
        if len(line) + len(piece.rstrip()) > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = " " * inside
        line += piece
        bare = _STRINGS.sub("", piece)
        inside += sum(map(bare.count, "{[")) - sum(map(bare.count, "}]"))
    return [*lines, line.rstrip() + ending]
