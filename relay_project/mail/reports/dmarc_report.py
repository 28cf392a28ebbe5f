"""DMARC aggregate reports: the schemas of RFC 7489 appendix C and RFC 9990, as XML, gzip or ZIP, and how they are sent.

Read as a stream, so that a large report costs no tree. What providers leave out, misspell or put into a namespace is
passed over; a report must say who, when and about which domain.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.reports.attached import attachments, file_name
from relay_project.mail.reports.facts import DmarcReport, DmarcResult, DmarcRow
from relay_project.mail.reports.message import header
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.packed import CannotUnpack, unpacked
from relay_project.mail.reports.values import count_of, moment_of
from relay_project.mail.text import clean

MAX_ELEMENTS = 200_000  # of one report; a row has about 20
MAX_DEPTH = 12  # a row's reasons stand at five
MAX_ROWS = 5_000  # kept
MAX_RESULTS = 5  # of DKIM or SPF, and reasons, kept of a row
MAX_NAME = 255  # characters of names, ids and addresses
MAX_WORD = 40  # characters of results and policies

SUBJECT = re.compile(r"report[ _-]domain\s*:.*(?:submitter|report-?id)", re.IGNORECASE)  # RFC 7489 §7.2.1.1
FILE_NAME = re.compile(r"[^!]+![^!]+!\d+!\d+(?:![^!]*)?\.(?:xml|xml\.gz|zip|gz)\Z", re.IGNORECASE)  # the same
_HEAD = ("report_metadata", "policy_published")
_ROOT = re.compile(rb"<(?:\w+:)?feedback[\s>]")
_LONG_TAG = re.compile(rb"<[^<>]{4000}")  # hundreds of thousands of attributes cost the parser seconds
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_BARE_ADDRESS = re.compile(r"<(?=[^<>\s]{1,320}@[^<>\s]{1,320}>)")  # <email><dmarc@example.com></email>
_BARE_AMPERSAND = re.compile(r"&(?!#?\w{1,20};)")


class NoReport(ValueError):
    """It is no aggregate report, or lacks what makes one; the message says what."""


def read_dmarc_report(message: Message) -> Report | None:
    """The report in a mail. A mail that says it carries one, and does not, is one with trouble; another is None."""
    trouble = ""
    for part, octets in attachments(message):
        expected = bool(FILE_NAME.match(file_name(part)) or SUBJECT.search(header(message, "Subject")))
        try:
            xml = unpacked(octets)
            if _ROOT.search(xml, 0, 4096):
                return Report(ReportKind.DMARC_REPORT, dmarc_report=parse_dmarc_report(xml))
        except (CannotUnpack, NoReport) as error:
            trouble = trouble or (str(error) if expected or isinstance(error, NoReport) else "")
    return Report(ReportKind.DMARC_REPORT, trouble=trouble) if trouble else None


def parse_dmarc_report(xml: bytes) -> DmarcReport:
    """Read the XML; a second time with its usual faults mended when it is not well-formed. Raises NoReport."""
    if _LONG_TAG.search(xml):
        raise NoReport("The XML is no report's.")
    try:
        return _parse(xml)
    except ParseError:
        try:
            return _parse(_mended(xml))
        except ParseError as error:
            raise NoReport(clean(f"The XML is broken: {error}.", MAX_NAME)) from error


def _mended(xml: bytes) -> bytes:
    """Octets that are no UTF-8, control characters, bare ampersands and addresses made harmless; the root comes first."""
    text = _DECLARATION.sub("", clean(xml.lstrip(b"\xef\xbb\xbf"), len(xml)))
    begin = text.find("<feedback")
    return _BARE_ADDRESS.sub("&lt;", _BARE_AMPERSAND.sub("&amp;", text[max(begin, 0) :])).encode()


@dataclass(slots=True)
class _Gathered:
    """What was read so far."""

    metadata: Element | None = None
    policy: Element | None = None
    rows: list[DmarcRow] = field(default_factory=list)
    left_out: int = 0


def _parse(xml: bytes) -> DmarcReport:
    gathered = _Gathered()
    try:
        for element in _sections(xml):
            match _name(element):
                case "report_metadata":
                    gathered.metadata = element
                case "policy_published":
                    gathered.policy = element
                case "record":
                    _take_row(gathered, element)
    except (DefusedXmlException, LookupError, UnicodeError) as error:
        raise NoReport(clean(f"The XML is refused: {type(error).__name__}.", MAX_NAME)) from error
    return _report(gathered)


def _sections(xml: bytes) -> Iterator[Element]:
    """The root's children, each as it ends; rows are forgotten then. Raises NoReport for what is too large or too deep."""
    depth = elements = 0
    for event, element in iterparse(BytesIO(xml), events=("start", "end"), forbid_dtd=True):
        if event == "start":
            depth, elements = depth + 1, elements + 1
            if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
                raise NoReport("The XML has too many elements.")
            continue
        depth -= 1
        if depth == 1:
            yield element
            if _name(element) not in _HEAD:
                element.clear()


def _take_row(gathered: _Gathered, element: Element) -> None:
    row = _row(element)
    if len(gathered.rows) >= MAX_ROWS:
        gathered.left_out += 1
    elif row is not None:
        gathered.rows.append(row)


def _report(gathered: _Gathered) -> DmarcReport:
    metadata, policy = gathered.metadata, gathered.policy
    if metadata is None or policy is None:
        raise NoReport("The report lacks its metadata or the policy it is about.")
    domain = _domain(_text(policy, "domain"))
    if not domain:
        raise NoReport("The report names no domain.")
    begins_at, ends_at = _span(metadata)
    percent = _text(policy, "pct")
    return DmarcReport(
        organisation=_text(metadata, "org_name") or _text(metadata, "email") or "unknown",
        report_id=_text(metadata, "report_id"),
        begins_at=begins_at,
        ends_at=ends_at,
        domain=domain,
        policy=_word(policy, "p"),
        subdomain_policy=_word(policy, "sp"),
        percent=min(count_of(percent), 100) if percent.isdecimal() else None,
        is_testing=_word(policy, "testing") == "y" or _word(policy, "t") == "y",
        strict_dkim=_word(policy, "adkim") == "s",
        strict_spf=_word(policy, "aspf") == "s",
        contact=_text(metadata, "email"),
        rows=tuple(row if row.header_from else _with_header_from(row, domain) for row in gathered.rows),
        left_out=gathered.left_out,
    )


def _span(metadata: Element) -> tuple[datetime, datetime]:
    """When it begins and ends; raises NoReport. A missing end is the beginning."""
    span = _child(metadata, "date_range")
    begin = moment_of(_text(span, "begin")) if span is not None else None
    if span is None or begin is None:
        raise NoReport("The report does not say which time it is about.")
    return begin, max(begin, moment_of(_text(span, "end")) or begin)


def _row(record: Element) -> DmarcRow | None:
    """A row, None when it counts no message."""
    row = _child(record, "row")
    messages = count_of(_text(row, "count"))
    if row is None or not messages:
        return None
    evaluated, identifiers = _child(row, "policy_evaluated"), _child(record, "identifiers", "identities")
    results = _child(record, "auth_results")
    dkim, spf = _results(results, "dkim"), _results(results, "spf")
    header_from = _domain(_text(identifiers, "header_from"))
    return DmarcRow(
        source_ip=_text(row, "source_ip")[:45],
        messages=messages,
        disposition=_word(evaluated, "disposition"),
        dkim=_passed(_word(evaluated, "dkim"), dkim, header_from),
        spf=_passed(_word(evaluated, "spf"), spf, header_from),
        header_from=header_from,
        envelope_from=_text(identifiers, "envelope_from"),
        reasons=_reasons(evaluated),
        dkim_results=dkim,
        spf_results=spf,
    )


def _with_header_from(row: DmarcRow, domain: str) -> DmarcRow:
    passed = {
        "dkim": row.dkim or _passed("", row.dkim_results, domain),
        "spf": row.spf or _passed("", row.spf_results, domain),
    }
    shape = {name: getattr(row, name) for name in DmarcRow.__dataclass_fields__}
    return DmarcRow(**{**shape, **passed, "header_from": domain})


def _passed(evaluated: str, results: tuple[DmarcResult, ...], header_from: str) -> bool:
    """Whether it passed aligned: as the receiver says, else by its results of the same domain or one below or above it."""
    if evaluated:
        return evaluated == "pass"
    return any(result.result == "pass" and _is_near(result.domain, header_from) for result in results)


def _is_near(domain: str, other: str) -> bool:
    return bool(domain and other) and (domain == other or domain.endswith(f".{other}") or other.endswith(f".{domain}"))


def _results(results: Element | None, kind: str) -> tuple[DmarcResult, ...]:
    found = [element for element in results if _name(element) == kind][:MAX_RESULTS] if results is not None else []
    return tuple(
        DmarcResult(_text(element, "domain").lower(), _word(element, "result"), _text(element, "selector"))
        for element in found
    )


def _reasons(evaluated: Element | None) -> tuple[str, ...]:
    found = [element for element in evaluated if _name(element) == "reason"] if evaluated is not None else []
    words = [
        _word(element, "type") or clean(element.text or "", MAX_WORD).strip().lower() for element in found[:MAX_RESULTS]
    ]
    return tuple(word for word in words if word)


def _name(element: Element) -> str:
    """Its name, without a namespace, in lower case."""
    return str(element.tag).rpartition("}")[2].lower()


def _child(element: Element | None, *names: str) -> Element | None:
    return next((child for child in element if _name(child) in names), None) if element is not None else None


def _text(element: Element | None, name: str) -> str:
    found = _child(element, name)
    return " ".join(clean(found.text or "", MAX_NAME * 2).split())[:MAX_NAME] if found is not None else ""


def _word(element: Element | None, name: str) -> str:
    return _text(element, name).lower()[:MAX_WORD]


def _domain(text: str) -> str:
    """One spelling; empty for what is no domain."""
    try:
        return normalise_domain(text.strip("<> ").rpartition("@")[2])
    except InvalidDomain:
        return ""
