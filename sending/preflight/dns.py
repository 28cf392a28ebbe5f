"""What DNS says about a mail: the From domain's DKIM, SPF and DMARC, and whether the recipients' domains take mail.

Asked through the house's resolver, all at once and then what follows from that, within DEADLINE_SECONDS in total. What did
not answer in time is said to be unknown, never wrong (lesson C21). No transaction is open meanwhile.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.conf import settings
from dns.rdatatype import AAAA, MX, TXT, A, RdataType

from relay_project.mail import dmarc, spf
from relay_project.mail.dkim import public_key_of_txt
from relay_project.net.resolver import Answer, LookupFailed, NameNotFound, look_up_all, mx_hosts, txt_texts
from sending.preflight.finding import Finding, error, info, ok, warning

DEADLINE_SECONDS = 5.0
STEP_SECONDS = 2.5  # of one round; a later one has what is left
MAX_DOMAINS = 20  # of recipients that are looked up
MAX_IPS = 4  # of our addresses that SPF is asked about

_TYPES: dict[str, RdataType] = {"TXT": TXT, "A": A, "AAAA": AAAA, "MX": MX}


@dataclass(frozen=True, slots=True)
class Sender:
    """The From side. `keys`: (host, public key) of what signs; `return_path`: the domain of MAIL FROM."""

    domain: str
    keys: tuple[tuple[str, str], ...]
    return_path: str
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Questions:
    """Answers so far, and the time that is left to ask for more."""

    until: float = field(default_factory=lambda: time.monotonic() + DEADLINE_SECONDS)
    known: dict[tuple[str, RdataType], Answer | LookupFailed] = field(default_factory=dict)

    def ask(self, questions: Sequence[tuple[str, RdataType]]) -> None:
        """Ask all of these at once; what there is no time for stays unknown."""
        new = [question for question in dict.fromkeys(questions) if question not in self.known]
        left = min(self.until - time.monotonic(), STEP_SECONDS)
        if new and left > 0.05:
            self.known |= zip(new, look_up_all(new, settings.DNS_RESOLVERS or None, left), strict=True)

    def get(self, name: str, kind: RdataType) -> Answer:
        """The answer; raises LookupError for a name that does not exist, ConnectionError for what nobody knows."""
        if (name, kind) not in self.known:
            self.ask([(name, kind)])
        found = self.known.get((name, kind))
        if isinstance(found, Answer):
            return found
        if isinstance(found, NameNotFound):
            raise LookupError(name)
        raise ConnectionError(found.text if isinstance(found, LookupFailed) else "no time was left to ask")

    def texts(self, name: str) -> list[str]:
        """The TXT records of a name, as mail.dmarc asks for them."""
        return txt_texts(self.get(name, TXT))

    def spf(self, name: str, kind: str) -> list[str]:
        """The records of a name, as mail.spf asks for them."""
        answer = self.get(name.rstrip(".").lower(), _TYPES[kind])
        if kind == "TXT":
            return txt_texts(answer)
        return mx_hosts(answer) if kind == "MX" else [record.to_text() for record in answer.records]


def check_dns(sender: Sender, domains: Sequence[str], simulator: str) -> list[Finding]:
    """The findings; at most DEADLINE_SECONDS. `simulator`: a domain that needs no DNS."""
    asked = [name for name in dict.fromkeys(domains) if name != simulator][:MAX_DOMAINS]
    questions = Questions()
    questions.ask(
        [
            *((host, TXT) for host, _ in sender.keys),
            (sender.return_path, TXT),
            *((f"{dmarc.LABEL}.{name}", TXT) for name in dmarc.names_above(sender.domain)),
            *((name, MX) for name in asked),
        ]
    )
    questions.ask([(name, kind) for name in asked if _has_no_mx(questions, name) for kind in (A, AAAA)])
    is_signed, dkim = _dkim(sender, questions)
    passes, policy = _spf(sender, questions)
    found = [dkim, policy, _dmarc(sender, questions, is_signed, passes)]
    return [*found, *(finding for name in asked for finding in _recipient(name, questions))]


def _dkim(sender: Sender, questions: Questions) -> tuple[bool | None, Finding]:
    """Whether the key that signs is published (None: unknown)."""
    if not sender.keys:
        return False, error("dkim", f"{sender.domain} has no key that signs.", "from")
    host, public = sender.keys[0]
    try:
        records = questions.texts(host)
    except LookupError:
        records = []
    except ConnectionError as trouble:
        return None, info("dkim", f"Whether the DKIM key stands at {host} is unknown: {trouble}.", "from")
    if any(public_key_of_txt(record) == public for record in records):
        return True, ok("dkim", f"The DKIM key is published at {host}.")
    wrong = "another key" if records else "no key"
    return False, error("dkim", f"There is {wrong} at {host}: receivers will take the signature for forged.", "from")


def _spf(sender: Sender, questions: Questions) -> tuple[bool | None, Finding]:
    """Whether SPF passes for our addresses at the return path."""
    at = f"the return path {sender.return_path}"
    if not sender.addresses:
        return None, info("spf", f"SPF of {at} is unknown: no source address is in use.")
    for address in sender.addresses[:MAX_IPS]:
        finding = spf.check_host(address, sender.return_path, questions.spf, f"bounces@{sender.return_path}")
        if finding.result is spf.Result.TEMPERROR:
            return None, info("spf", f"SPF of {at} is unknown: {finding.term}.")
        if finding.result is not spf.Result.PASS:
            message = f"SPF of {at} does not let {address} send ({finding.result}: {finding.term})."
            return False, warning("spf", message)
    return True, ok("spf", f"SPF of {at} lets our addresses send.")


def _dmarc(sender: Sender, questions: Questions, is_signed: bool | None, passes: bool | None) -> Finding:
    """Whether the mail is aligned with its From, by either of the two, and what the domain asks for if it is not."""
    try:
        published = dmarc.find_policy(sender.domain, questions.texts)
        organisation = dmarc.organisational_domain(sender.domain, questions.texts)
    except ConnectionError as trouble:
        return info("dmarc", f"The DMARC policy of {sender.domain} is unknown: {trouble}.", "from")
    except dmarc.InvalidPolicy as wrong:
        return warning("dmarc", f"The DMARC record of {sender.domain} is not valid: {wrong}.", "from")
    if published is None:
        return warning("dmarc", f"{sender.domain} has no DMARC policy; Gmail and Yahoo ask for one.", "from")
    policy = published.policy
    action = policy.action_for(is_subdomain=published.domain != sender.domain)
    is_aligned = dmarc.is_aligned(
        sender.return_path, sender.domain, strict=policy.strict_spf, organisation=organisation
    )
    ways = [way for way, holds in (("DKIM", is_signed), ("SPF", passes and is_aligned)) if holds]
    if ways:
        return ok("dmarc", f"The mail is aligned with {sender.domain} by {' and '.join(ways)} (policy: {action}).")
    if is_signed is None or (passes is None and is_aligned):
        return info("dmarc", f"Whether the mail is aligned with {sender.domain} is unknown (policy: {action}).")
    message = f"The mail is not aligned with {sender.domain}, whose DMARC policy asks for: {action}."
    return (warning if action is dmarc.Action.NONE else error)("dmarc", message, "from")


def _has_no_mx(questions: Questions, name: str) -> bool:
    found = questions.known.get((name, MX))
    return isinstance(found, Answer) and not found.records


def _recipient(name: str, questions: Questions) -> list[Finding]:
    """Whether a domain takes mail (RFC 5321 §5.1, RFC 7505)."""
    try:
        hosts = mx_hosts(questions.get(name, MX))
        if hosts and not any(host.strip(".") for host in hosts):
            return [error("recipients", f"{name} takes no mail (null MX).", "to")]
        if not hosts and not any(questions.get(name, kind).records for kind in (A, AAAA)):
            return [error("recipients", f"{name} has neither MX nor address.", "to")]
    except LookupError:
        return [error("recipients", f"The domain {name} does not exist.", "to")]
    except ConnectionError as trouble:
        return [info("recipients", f"Whether {name} takes mail is unknown: {trouble}.", "to")]
    return [ok("recipients", f"{name} takes mail.")]
