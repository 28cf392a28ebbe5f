"""What can be shown of a received mail: SPF, DKIM, DMARC, ARC, and hints that spam often has. No rule of ours refuses for it.

DNS is asked within DEADLINE_SECONDS in total, outside of any transaction; what nobody answered is a `temperror`, and never
a failure (lesson C21). What a filter before us wrote is told, as a hint, and believed no further.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.reversename
from dns.rdatatype import PTR

from relay_project.mail import arc, dmarc, spf
from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.dkim_check import check_signatures
from relay_project.mail.received import Received, fields_of, read_received
from relay_project.mail.text import clean
from sending.inbound.mail import Inbound
from sending.preflight.dns import Questions

DEADLINE_SECONDS = 10.0
MAX_DETAIL = 200  # characters
TEMPERROR = "temperror"
UNKNOWN: dict[str, Any] = {
    "spf": {"result": TEMPERROR, "domain": "", "detail": "it was not looked at"},
    "dkim": [],
    "dmarc": {"result": TEMPERROR, "domain": "", "policy": None},
    "arc": {"result": TEMPERROR, "domain": "", "detail": "it was not looked at"},
}


@dataclass(frozen=True, slots=True)
class Findings:
    """A mail that was looked at."""

    message: Received
    authentication: dict[str, Any]
    hints: tuple[str, ...]
    chain: arc.Chain


def examine(mail: Inbound) -> Findings:
    """Read it and ask DNS about it; call it outside any transaction."""
    message = read_received(mail.octets)
    questions = Questions(until=time.monotonic() + DEADLINE_SECONDS)
    by_spf = _spf(mail, questions)
    by_dkim = [_told(result) for result in check_signatures(mail.octets, questions.texts)]
    chain = arc.validate(mail.octets, questions.texts)
    authentication = {
        "spf": by_spf,
        "dkim": by_dkim,
        "dmarc": _dmarc(message, by_spf, by_dkim, questions),
        "arc": {"result": chain.result.value, "domain": chain.domain, "detail": chain.detail},
    }
    return Findings(message, authentication, tuple(_hints(mail, message, authentication, questions)), chain)


def unexamined(mail: Inbound) -> Findings:
    """The mail without a look at DNS, for one that something dies with."""
    return Findings(read_received(mail.octets), UNKNOWN, (), arc.Chain(arc.ChainResult.TEMPERROR))


def _spf(mail: Inbound, questions: Questions) -> dict[str, Any]:
    """Of the reverse path's domain; of a mail without one, the HELO name's (RFC 7208 §2.4)."""
    domain = mail.mail_from.rpartition("@")[2] or mail.helo_name
    try:
        domain = normalise_domain(domain)
        found = spf.check_host(mail.peer, domain, questions.spf, mail.mail_from or f"postmaster@{domain}")
    except (InvalidDomain, ValueError):  # HELO with an address literal; a peer without an address
        return {"result": "none", "domain": clean(domain, 253), "detail": "it is no domain"}
    return {"result": found.result.value, "domain": domain, "detail": clean(found.term, MAX_DETAIL)}


def _told(result: dict[str, Any]) -> dict[str, Any]:
    error = str(result["error"])
    is_unknown = error.startswith("ConnectionError") or "no time was left" in error
    state = "pass" if result["valid"] else TEMPERROR if is_unknown else "fail"
    return {"result": state, "domain": result["domain"], "selector": result["selector"], "detail": error[:MAX_DETAIL]}


def _dmarc(
    message: Received, by_spf: dict[str, Any], by_dkim: Sequence[dict[str, Any]], questions: Questions
) -> dict[str, Any]:
    """RFC 7489 §6.6; a mail with several From addresses, or none, has no domain that it could be held against."""
    domains = {one.address.rpartition("@")[2].lower() for one in message.from_}
    told: dict[str, Any] = {"result": "none", "domain": "", "policy": None}
    if len(domains) != 1:
        return told
    try:
        told["domain"] = domain = normalise_domain(domains.pop())
        published = dmarc.find_policy(domain, questions.texts)
        organisation = dmarc.organisational_domain(domain, questions.texts)
    except InvalidDomain:
        return told
    except ConnectionError:
        return told | {"result": TEMPERROR}
    except dmarc.InvalidPolicy:
        return told | {"result": "permerror"}
    if published is None:
        return told
    policy = published.policy
    told["policy"] = policy.action_for(is_subdomain=published.domain != domain).value
    ways = [(by_spf, policy.strict_spf), *((one, policy.strict_dkim) for one in by_dkim)]
    aligned = [
        one["result"]
        for one, strict in ways
        if one["domain"] and dmarc.is_aligned(one["domain"], domain, strict=strict, organisation=organisation)
    ]
    return told | {"result": "pass" if "pass" in aligned else TEMPERROR if TEMPERROR in aligned else "fail"}


def _hints(mail: Inbound, message: Received, authentication: dict[str, Any], questions: Questions) -> list[str]:
    found = [f"spf-{by_spf}" for by_spf in [authentication["spf"]["result"]] if by_spf in ("fail", "softfail")]
    dkim = [one["result"] for one in authentication["dkim"]]
    checks = {
        "dkim-fail": "fail" in dkim and "pass" not in dkim,
        "dmarc-fail": authentication["dmarc"]["result"] == "fail",
        "no-from": not message.from_,
        "several-from": len(message.from_) > 1,
        "no-date": message.date is None,
        "no-message-id": not message.message_id,
        "no-reverse-dns": _has_no_name(mail.peer, questions),
        "helo-no-name": "." not in mail.helo_name.strip(".") or mail.helo_name.startswith("["),
        "no-tls": not mail.tls,
        "filter-says-spam": _is_marked(message),
    }
    return found + [hint for hint, holds in checks.items() if holds]


def _has_no_name(peer: str, questions: Questions) -> bool:
    try:
        name = dns.reversename.from_address(peer).to_text(omit_final_dot=True)
        return not questions.get(name, PTR).records
    except LookupError:
        return True
    except (ConnectionError, ValueError, dns.exception.DNSException):
        return False


def _is_marked(message: Received) -> bool:
    """SpamAssassin's and rspamd's words; anybody can write them, so that they may only count against a mail."""
    flags = [*fields_of(message, "X-Spam-Flag"), *fields_of(message, "X-Spam-Status"), *fields_of(message, "X-Spam")]
    return any(flag.strip().lower().startswith("yes") for flag in flags)
