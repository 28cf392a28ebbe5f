"""What a domain's DNS should say: every record that is needed or advised, what is found there, and what that means.

`wanted` is what to publish, by our rows alone. `look` asks DNS about all of it at once, outside of any transaction, and
judges; it moves no status (domain_status, dkim_rotation and return_path do).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.conf import settings
from dns.rdatatype import MX, TXT, RdataType

from projects import report_records, return_path
from projects.dkim_keys import dkim_host, dkim_txt_value, keys_of, public_value
from projects.domain_reports import DMARC_ADDRESS
from projects.models import DkimKey, DkimKeyState, Domain, DomainStatus, ReturnPathStatus
from relay_project.mail import bimi, dmarc, spf, tls_rpt
from relay_project.mail.dkim import public_key_of_txt
from relay_project.mail.text import clean
from relay_project.net.resolver import Answer, LookupFailed, NameNotFound, look_up_all, txt_texts

MAX_FOUND = 5  # texts shown of what is found
MAX_SHOWN = 1000  # characters of each

Outcome = Answer | LookupFailed
Asked = Mapping[tuple[str, RdataType], Outcome]


class Purpose(StrEnum):
    """What a record is for."""

    DKIM = "dkim"
    RETURN_PATH = "return_path"
    SPF = "spf"
    DMARC = "dmarc"
    BIMI = "bimi"
    TLS_REPORTS = "tls_reports"
    FOREIGN_REPORTS = "foreign_reports"  # of the instance domain: that it takes reports about others


class RecordState(StrEnum):
    """What DNS says about a record; `unknown`: nobody has asked, or nobody answered."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record: what to publish and why, what is there, and what to do about it."""

    purpose: Purpose
    kind: str  # TXT, CNAME
    host: str
    name: str  # the host relative to the domain, as many DNS providers ask for it
    value: str
    is_required: bool
    why: str
    state: RecordState = RecordState.UNKNOWN
    found: tuple[str, ...] = ()
    advice: str = ""  # what is wrong, or what else there is to know
    key: DkimKey | None = None


def wanted(domain: Domain) -> list[DnsRecord]:
    """What should be in the domain's DNS, with what the last checks found; DNS is not asked."""
    keys = [key for key in keys_of(domain) if key.state != DkimKeyState.RETIRED]
    records = [_dkim(domain, key) for key in keys]
    if domain.return_path:
        records.append(_return_path(domain, domain.return_path))
    # the instance domain's own SPF names addresses, not itself
    left_out = Purpose.SPF if _is_instance(domain) else Purpose.FOREIGN_REPORTS
    return [*records, *(record for record in _advised(domain) if record.purpose is not left_out)]


def _is_instance(domain: Domain) -> bool:
    return domain.domain == return_path.return_path_target()


def _advised(domain: Domain) -> list[DnsRecord]:
    include = f"v=spf1 include:{return_path.return_path_target()} ~all"
    return [
        _record(domain, Purpose.DMARC, dmarc.LABEL, report_records.dmarc_value(), report_records.DMARC_WHY),
        _record(
            domain, Purpose.FOREIGN_REPORTS, "*._report._dmarc", report_records.AUTHORISED, report_records.AUTHORISED_WHY
        ),
        _record(
            domain, Purpose.SPF, "", include,
            "Receivers check SPF for the return path, not for this name; but many tools look for it here.",
        ),
        _record(domain, Purpose.TLS_REPORTS, tls_rpt.LABEL, report_records.tls_value(), report_records.TLS_WHY),
        _record(
            domain, Purpose.BIMI, bimi.LABEL, f"v=BIMI1; l=https://{domain.domain}/logo.svg; a=",
            "Shows your logo (SVG Tiny PS) in some mailboxes. Most want a certificate for it in a=, too.",
        ),
    ]  # fmt: skip


def look(domain: Domain) -> list[DnsRecord]:
    """The same, as DNS says now; a failing resolver makes a record unknown and raises nothing."""
    records = wanted(domain)
    questions = [(record.host, TXT) for record in records if record.purpose is not Purpose.RETURN_PATH]
    above = dmarc.names_above(domain.domain)
    questions += [(f"{dmarc.LABEL}.{name}", TXT) for name in above]
    questions += [
        (report_records.authorising_host(name), TXT) for name in above if report_records.needs_authorising(name)
    ]
    if domain.return_path:
        questions += return_path.questions(domain.return_path)
    questions = list(dict.fromkeys(questions))
    asked = dict(zip(questions, look_up_all(questions, settings.DNS_RESOLVERS or None), strict=True))
    return [_judged(domain, record, asked) for record in records]


def dns_record_object(record: DnsRecord) -> dict[str, Any]:
    """A record as the API shows it."""
    return {
        "purpose": str(record.purpose),
        "type": record.kind,
        "host": record.host,
        "name": record.name,
        "value": record.value,
        "is_required": record.is_required,
        "state": str(record.state),
        "found": list(record.found),
        "why": record.why,
        "advice": record.advice,
        "dkim_key_id": record.key.pk if record.key else None,
    }


def _record(domain: Domain, purpose: Purpose, label: str, value: str, why: str) -> DnsRecord:
    host = f"{label}.{domain.domain}" if label else domain.domain
    return DnsRecord(purpose, "TXT", host, label or "@", value, False, why)


def _dkim(domain: Domain, key: DkimKey) -> DnsRecord:
    why = {
        DkimKeyState.ACTIVE: "Carries the public key that receivers check signatures with, and proves the domain is yours.",
        DkimKeyState.PENDING: "The new key. It signs as soon as this record is found.",
        DkimKeyState.RETIRING: "The former key. Mail that it signed is still on its way, so its record must stay.",
    }[DkimKeyState(key.state)]
    host = dkim_host(key)
    name = host.removesuffix(f".{domain.domain}")
    state, advice = _known_of(domain, key)
    return DnsRecord(Purpose.DKIM, "TXT", host, name, dkim_txt_value(key), True, why, state, advice=advice, key=key)


def _known_of(domain: Domain, key: DkimKey) -> tuple[RecordState, str]:
    """What the last check said: of the current key in the domain's row, of a waiting one in its own."""
    at, error = key.checked_at, key.error_message
    if key.is_current and domain.status != DomainStatus.SUSPENDED:
        at, error = domain.dkim_checked_at, domain.dkim_error_message
    if at is None or key.state == DkimKeyState.RETIRING:
        return RecordState.UNKNOWN, ""
    if error is None:
        return RecordState.OK, ""
    return (RecordState.UNKNOWN if "resolver failed" in error else RecordState.MISSING), error


def _return_path(domain: Domain, host: str) -> DnsRecord:
    why = "Bounces come back by this name, and SPF passes for your own domain."
    name, target = host.removesuffix(f".{domain.domain}"), f"{return_path.return_path_target()}."
    state = RecordState.UNKNOWN
    if domain.return_path_status == ReturnPathStatus.ACTIVE:
        state = RecordState.OK
    elif domain.return_path_checked_at is not None:
        state = RecordState.MISSING
    advice = domain.return_path_error_message or ""
    return DnsRecord(Purpose.RETURN_PATH, "CNAME", host, name, target, True, why, state, advice=advice)


# --- Judging -------------------------------------------------------------------------------------------------------


def _judged(domain: Domain, record: DnsRecord, asked: Asked) -> DnsRecord:
    if record.purpose is Purpose.RETURN_PATH:
        return _judge_return_path(record, asked)
    texts = _texts(asked, record.host)
    if texts is None:
        return replace(record, state=RecordState.UNKNOWN, advice="The DNS resolver failed. Try again later.")
    match record.purpose:
        case Purpose.DKIM:
            judged = _judge_dkim(record, texts)
        case Purpose.SPF:
            judged = _judge_spf(record, texts)
        case Purpose.DMARC:
            judged = _judge_dmarc(domain, record, texts, asked)
        case Purpose.TLS_REPORTS:
            judged = _judge_tls_reports(record, texts)
        case Purpose.FOREIGN_REPORTS:
            state = RecordState.OK if report_records.is_authorising(texts) else RecordState.MISSING
            judged = replace(record, state=state, found=tuple(texts))
        case _:
            judged = _judge_bimi(domain, record, texts, asked)
    return replace(judged, found=tuple(clean(text, MAX_SHOWN) for text in judged.found[:MAX_FOUND]))


def _texts(asked: Asked, host: str) -> list[str] | None:
    """The TXT records at a name; None when nobody answered."""
    outcome = asked.get((host, TXT))
    if isinstance(outcome, Answer):
        return sorted(txt_texts(outcome))  # servers rotate them
    return [] if isinstance(outcome, NameNotFound) else None


def _judge_dkim(record: DnsRecord, texts: list[str]) -> DnsRecord:
    assert record.key is not None
    keys = [text for text in texts if public_key_of_txt(text) is not None]
    if any(public_key_of_txt(text) == public_value(record.key) for text in keys):
        return replace(record, state=RecordState.OK, found=tuple(keys), advice="")
    if keys:
        return replace(record, state=RecordState.WRONG, found=tuple(keys), advice="The record has another public key.")
    advice = "" if not texts else "What is there is no DKIM record."
    return replace(record, state=RecordState.MISSING, found=tuple(texts), advice=advice)


def _judge_return_path(record: DnsRecord, asked: Asked) -> DnsRecord:
    host = record.host
    outcomes = (asked[(host, MX)], asked[(host, TXT)], asked[(return_path.return_path_target(), MX)])
    result = return_path.judge(host, *outcomes)
    state = RecordState.OK if result.verified else RecordState.WRONG if result.found else RecordState.MISSING
    if not result.conclusive:
        state = RecordState.UNKNOWN
    return replace(record, state=state, found=result.found, advice=result.error_message or "")


def _judge_spf(record: DnsRecord, texts: list[str]) -> DnsRecord:
    target = return_path.return_path_target()
    published = tuple(text for text in texts if text.strip().lower().startswith("v=spf1"))
    try:
        text = spf.find_record(texts)
        if text is None:
            return replace(record, state=RecordState.MISSING)
        includes = spf.parse_record(text).includes
    except spf.InvalidRecord as error:
        return replace(record, state=RecordState.WRONG, found=published, advice=_sentence(error))
    if target in includes:
        return replace(record, state=RecordState.OK, found=published)
    return replace(
        record,
        value=_with_include(text, target),
        state=RecordState.WRONG,
        found=published,
        advice="The record does not name this installation. Add the include to the record you have.",
    )


def _with_include(text: str, target: str) -> str:
    """A record with one more include, before the term that ends it."""
    version, *terms = text.split()
    ends = [at for at, term in enumerate(terms) if term.lower().lstrip("+-~?") == "all" or "=" in term]
    at = ends[0] if ends else len(terms)
    return clean(" ".join([version, *terms[:at], f"include:{target}", *terms[at:]]), MAX_SHOWN)


def _judge_dmarc(domain: Domain, record: DnsRecord, texts: list[str], asked: Asked) -> DnsRecord:
    published = tuple(text for text in texts if text.strip().lower().startswith("v=dmarc1"))
    try:
        policy = _policy(domain, asked)
    except dmarc.InvalidPolicy as error:
        return replace(record, state=RecordState.WRONG, found=published, advice=_sentence(error))
    except ConnectionError:
        return replace(record, state=RecordState.UNKNOWN, advice="The DNS resolver failed. Try again later.")
    if policy is None:
        several = "Several DMARC records are published; receivers then use none of them."
        state = RecordState.WRONG if len(published) > 1 else RecordState.MISSING
        return replace(record, state=state, found=published, advice=several if len(published) > 1 else "")
    advice = "" if policy.domain == domain.domain else f"The policy of {policy.domain} holds."
    if policy.policy.action is dmarc.Action.NONE:
        advice = f"{advice} It asks for nothing yet: go on to p=quarantine once all your mail passes."
    if not report_records.names_us(policy.policy.reports_to, DMARC_ADDRESS):
        advice = f"{advice} With our address in rua= reports are shown here."
        if len(published) == 1:
            record = replace(
                record, value=clean(report_records.with_our_address(published[0], DMARC_ADDRESS), MAX_SHOWN)
            )
    elif _is_unauthorised(policy.domain, asked):
        host = report_records.authorising_host(policy.domain)
        advice = f"{advice} Reports come only when this installation publishes a record at {host}: tell its staff."
    return replace(record, state=RecordState.OK, found=published, advice=advice.strip())


def _is_unauthorised(domain: str, asked: Asked) -> bool:
    texts = _texts(asked, report_records.authorising_host(domain))
    return report_records.needs_authorising(domain) and texts is not None and not report_records.is_authorising(texts)


def _judge_tls_reports(record: DnsRecord, texts: list[str]) -> DnsRecord:
    published = tuple(text for text in texts if text.strip().lower().startswith("v=tlsrpt"))
    try:
        state, advice, value = report_records.judge_tls(texts)
    except tls_rpt.InvalidRecord as error:
        return replace(record, state=RecordState.WRONG, found=published, advice=_sentence(error))
    value = clean(value, MAX_SHOWN) or record.value
    return replace(record, state=RecordState(state), found=published, advice=advice, value=value)


def _judge_bimi(domain: Domain, record: DnsRecord, texts: list[str], asked: Asked) -> DnsRecord:
    try:
        text = bimi.find_record(texts)
        if text is None:
            return replace(record, state=RecordState.MISSING)
        declines = bimi.parse_record(text).declines
    except bimi.InvalidRecord as error:
        return replace(record, state=RecordState.WRONG, found=tuple(texts), advice=_sentence(error))
    if declines:
        return replace(record, state=RecordState.OK, found=(text,), advice="It says that no logo is wanted.")
    if not _is_enforced(domain, asked):
        advice = "No logo is shown before the DMARC policy is quarantine or reject, for all mail."
        return replace(record, state=RecordState.WRONG, found=(text,), advice=advice)
    return replace(record, state=RecordState.OK, found=(text,))


def _is_enforced(domain: Domain, asked: Asked) -> bool:
    try:
        policy = _policy(domain, asked)
    except (dmarc.InvalidPolicy, ConnectionError):
        return False
    if policy is None or policy.policy.percent < 100:
        return False
    return policy.policy.action_for(is_subdomain=policy.domain != domain.domain) is not dmarc.Action.NONE


def _policy(domain: Domain, asked: Asked) -> dmarc.Published | None:
    """The DMARC policy that holds, by what was asked; raises InvalidPolicy, and ConnectionError for no answer."""

    def lookup(name: str) -> Sequence[str]:
        texts = _texts(asked, name)
        if texts is None:
            raise ConnectionError(name)
        return texts

    return dmarc.find_policy(domain.domain, lookup)


def _sentence(error: Exception) -> str:
    text = clean(str(error), MAX_SHOWN)
    return f"{text[:1].upper()}{text[1:]}."
