"""Deciding what a reply or a network failure means for the recipient: pure, and driven by bounce_rules.toml.

Recipient, domain, content and infrastructure problems have different consequences: only the first two may suppress an
address, and only where a row of the table says so.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from relay_project.mail.reply import FailureKind, NetworkFailure, Reply, Stage
from relay_project.mail.text import clean


class Outcome(StrEnum):
    """What happens next with the recipient."""

    ACCEPTED = "accepted"  # the next hop said 250; it does not mean that the mail lies in an inbox
    DEFERRED = "deferred"  # try again by the schedule
    BOUNCED = "bounced"  # final


class Category(StrEnum):
    """Whose problem it is."""

    ACCEPTED = "accepted"
    RECIPIENT = "recipient"  # the mailbox: unknown, disabled, full
    DOMAIN = "domain"  # the recipient's domain or its mail system
    CONTENT = "content"  # this message: spam, size, format
    INFRASTRUCTURE = "infrastructure"  # we: source IP, authentication, rate, protocol
    TEMPORARY = "temporary"  # nobody's; it passes


class Cause(StrEnum):
    """What about us an infrastructure verdict complains of; each has its own remedy."""

    IP_REPUTATION = "ip-reputation"  # the source IP or the sending domain is listed or not trusted
    AUTHENTICATION = "authentication"  # SPF, DKIM or DMARC
    DNS = "dns"  # the PTR record, the EHLO name, or the return path's domain
    RATE = "rate"  # too many connections or messages
    PROTOCOL = "protocol"  # what we said, or how we are set up


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision; `rule` is the id of the row that made it.

    Infrastructure verdicts have a `cause`, but for a demand of TLS that is not met: that is about the receiver, or a
    decision of staff. `throttle`: fewer connections or messages from this source IP would help.
    `soft`: a mail that ends so says something about its address, and often enough of it suppresses.
    """

    outcome: Outcome
    category: Category
    suppress: bool
    rule: str
    cause: Cause | None = None
    throttle: bool = False
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table; an empty condition holds for every reply."""

    verdict: Verdict
    source: str
    stages: frozenset[Stage]
    codes: tuple[str, ...]
    enhanced: frozenset[str]
    text: re.Pattern[str] | None

    def matches(self, stage: Stage, code: str, enhanced: str, text: str) -> bool:
        """Whether every condition holds; `enhanced` is subject and detail without the class, or `none`."""
        return (
            code.startswith(self.codes)
            and (not self.stages or stage in self.stages)
            and (not self.enhanced or enhanced in self.enhanced or f"{enhanced.partition('.')[0]}.*" in self.enhanced)
            and (self.text is None or self.text.search(text) is not None)
        )


ACCEPTED = Verdict(Outcome.ACCEPTED, Category.ACCEPTED, False, "accepted")
NULL_MX = Verdict(
    Outcome.BOUNCED, Category.DOMAIN, False, "null-mx", soft=True
)  # RFC 7505 §4.2; answered as 556 5.1.10
NO_SUCH_DOMAIN = Verdict(Outcome.BOUNCED, Category.DOMAIN, False, "no-such-domain", soft=True)  # RFC 5321 §5.1
UNEXPECTED = Verdict(Outcome.DEFERRED, Category.TEMPORARY, False, "unexpected-reply")
# Whose trouble an address has when its mail ends with it. Network failures count for nothing: no host said anything.
_ABOUT_THE_ADDRESS = frozenset({Category.RECIPIENT, Category.DOMAIN, Category.TEMPORARY})
# Stages at which 2xx means that the recipient, or the message for it, was taken. 251 and 252 are as good as 250
# (RFC 5321 §4.2.3; lesson C5). A 2xx to the DATA command itself is none of these: no message was sent yet.
_TAKING_STAGES = frozenset({Stage.RCPT, Stage.DATA_CLOSE})
# Refusals of STARTTLS itself. Only a demand of TLS lets them end an attempt, so they say nothing about the source IP.
_TLS_REFUSED = frozenset({"early-tls", "us-before-mail"})
_LAST_STAGES = frozenset({Stage.DATA, Stage.DATA_CLOSE})

SERVICE_CLOSING = 421  # RFC 5321 §3.8: said at any step, and by everybody who finds us too fast

MAX_READ = 800  # characters of a reply that are read: the reason stands at its beginning, and texts are hostile

# Replies quote addresses, and whoever chose them must not choose the row. Texts are hostile: possessive and bounded
# (RFC 5321 §4.5.3.1: a local part of 64 octets, a domain of 255), so the time is linear in the length.
_ADDRESS = re.compile(r'<?(?:"[^"]{1,64}+"|[^\s<>@"]{1,64}+)@[^\s<>@,;)]{1,255}+>?')
# {gap} in a text: what lies between "mailbox" and "not found" must not speak of somebody else.
_GAP = r"(?:(?!\b(?:domain|host|server|sender|client|ip|dns|address list)\b).){0,60}"


def classify(stage: Stage, reply: Reply | None, failure: NetworkFailure | None = None, recipients: int = 1) -> Verdict:
    """Decide for one recipient from the reply that ended its part of the conversation, or the failure that did.

    A reply of 4xx or 5xx says more than a failure that came with it. After DATA one reply speaks for all `recipients`
    of the transaction, so with several of them nobody is suppressed. Unknown is a deferral, unless the reply is 5xx.
    Never raises.
    """
    if reply is not None and 400 <= reply.code <= 599:
        verdict = _by_table(stage, reply)
        if stage is Stage.STARTTLS and verdict.rule in _TLS_REFUSED:
            verdict = replace(verdict, cause=None)
        return _spared(verdict) if recipients > 1 and stage in _LAST_STAGES else verdict
    if failure is not None:
        return _of_failure(stage, failure)
    if reply is not None and 250 <= reply.code <= 259 and stage in _TAKING_STAGES:
        return ACCEPTED
    return UNEXPECTED


def is_throttle(stage: Stage, reply: Reply | None, failure: NetworkFailure | None = None) -> bool:
    """Whether the site told this source IP to slow down: a 421 at any step, a row with `throttle`, or no greeting.

    Takes what `classify` takes; never raises.
    """
    if reply is not None and reply.code == SERVICE_CLOSING:
        return True
    return classify(stage, reply, failure).throttle


def _by_table(stage: Stage, reply: Reply) -> Verdict:
    """Give the verdict of the first row that matches; the last rows match every 4xx and 5xx."""
    code, text = str(reply.code), " ".join(_ADDRESS.sub("<>", clean(reply.text, MAX_READ)).lower().split())
    enhanced = (reply.enhanced or "")[2:] if (reply.enhanced or "").startswith(f"{code[0]}.") else "none"
    return _decided(stage, code, enhanced, text)


@lru_cache(maxsize=1024)  # a drain hears the same few replies again and again; a look through the table takes 100 µs
def _decided(stage: Stage, code: str, enhanced: str, text: str) -> Verdict:
    return next((rule.verdict for rule in RULES if rule.matches(stage, code, enhanced, text)), UNEXPECTED)


def without_addresses(text: str) -> str:
    """A reply that is shown to others than those whose mail it is about: addresses in it become `<>`."""
    return _ADDRESS.sub("<>", text)


def source_of(rule: str) -> str:
    """Where it is written that a rule, by its id, decides as it does; empty for one that is no more."""
    return _SOURCES.get(rule, "")


def _spared(verdict: Verdict) -> Verdict:
    """The same verdict without a word about the address."""
    return replace(verdict, suppress=False, soft=False)


def _of_failure(stage: Stage, failure: NetworkFailure) -> Verdict:
    """Network and DNS failures are deferrals, all but the two that are answers (lessons C1, C2, C15)."""
    if failure.kind is FailureKind.NULL_MX:
        return NULL_MX
    if failure.kind is FailureKind.NO_SUCH_DOMAIN:
        return NO_SUCH_DOMAIN
    about_us = failure.kind in (FailureKind.TLS, FailureKind.PROTOCOL)
    return Verdict(
        Outcome.DEFERRED,
        Category.INFRASTRUCTURE if about_us else Category.TEMPORARY,
        suppress=False,
        rule=f"network-{failure.kind}",
        cause=Cause.PROTOCOL if failure.kind is FailureKind.PROTOCOL else None,
        throttle=failure.kind is FailureKind.REFUSED or (failure.kind is FailureKind.CUT and stage is Stage.DIAL),
    )


def _load_rules(path: Path) -> tuple[Rule, ...]:
    """Read the table; a row without id, verdict or source is refused by its missing key."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(_rule(row, table["phrases"]) for row in table["rule"])


def _rule(row: Mapping[str, object], phrases: Mapping[str, Mapping[str, object]]) -> Rule:
    """Build one row; what its phrases say counts as if it stood in the row."""
    parts = [row, *(phrases[name] for name in _strings(row.get("phrases", [])))]
    texts = [text for part in parts for text in _strings(part.get("text", []))]
    cause, category, suppress = row.get("cause"), Category(str(row["category"])), bool(row.get("suppress", False))
    verdict = Verdict(
        Outcome(str(row["outcome"])),
        category,
        suppress,
        rule=str(row["id"]),
        cause=Cause(str(cause)) if cause else None,
        throttle=bool(row.get("throttle", False)),
        soft=category in _ABOUT_THE_ADDRESS and not suppress,
    )
    return Rule(
        verdict=verdict,
        source="; ".join(str(part["source"]) for part in parts if "source" in part),
        stages=frozenset(Stage(stage) for stage in _strings(row.get("stages", []))),
        codes=tuple(_strings(row["codes"])),
        enhanced=frozenset(_strings(row.get("enhanced", []))),
        text=_pattern(texts),
    )


def _pattern(texts: Sequence[str]) -> re.Pattern[str] | None:
    """One pattern of all alternatives."""
    alternatives = "|".join(f"(?:{text})" for text in texts)
    return re.compile(alternatives.replace("{gap}", _GAP)) if texts else None


def _strings(value: object) -> list[str]:
    """A list of strings, or a TypeError while the table is loaded."""
    if not isinstance(value, list):
        raise TypeError("a condition of a rule is a list")
    return [str(item) for item in value]


RULES = _load_rules(Path(__file__).with_name("bounce_rules.toml"))

# What decides without a row: no reply, or one that needs no table.
_SOURCES = {
    "accepted": "RFC 5321 §4.2.1, §4.2.3 (250 to 259: the recipient, or the message for it, was taken)",
    "null-mx": "RFC 7505 §4.2 (the domain says that it takes no mail)",
    "no-such-domain": "RFC 5321 §5.1 (NXDOMAIN is an answer)",
    "unexpected-reply": "RFC 5321 §4.2.1 (a reply out of place: nothing is concluded, and the mail is tried again)",
    **{
        f"network-{kind}": "RFC 5321 §4.5.4.1 (no reply: tried again by the schedule)"
        for kind in FailureKind
        if kind not in (FailureKind.NULL_MX, FailureKind.NO_SUCH_DOMAIN)
    },
    **{rule.verdict.rule: rule.source for rule in RULES},
}
