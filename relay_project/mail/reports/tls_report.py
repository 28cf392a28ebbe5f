"""TLS reports (RFC 8460): JSON, mostly in gzip, as the second part of multipart/report or as a file."""

import json
import re
from collections.abc import Mapping
from email.message import Message
from typing import Any

from relay_project.mail.address import InvalidDomain, normalise_domain
from relay_project.mail.reports.attached import attachments, file_name
from relay_project.mail.reports.facts import TlsFailure, TlsPolicy, TlsReport
from relay_project.mail.reports.message import header
from relay_project.mail.reports.model import Report, ReportKind
from relay_project.mail.reports.packed import CannotUnpack, unpacked
from relay_project.mail.reports.values import count_of, moment_of
from relay_project.mail.text import clean

MAX_POLICIES = 100
MAX_FAILURES = 100  # kept of one policy
MAX_NAME = 255  # characters of names, ids and addresses
MAX_REASON = 500  # characters of what a sender says beside

FILE_NAME = re.compile(r"[^!]+![^!]+!\d+!\d+(?:![^!]*)?\.json(?:\.gz)?\Z", re.IGNORECASE)  # RFC 8460 §5.1


class NoReport(ValueError):
    """It is no TLS report, or lacks what makes one; the message says what."""


def read_tls_report(message: Message) -> Report | None:
    """The report in a mail. A mail that says it carries one, and does not, is one with trouble; another is None."""
    trouble = ""
    is_announced = str(message.get_param("report-type") or "").lower() == "tlsrpt" or header(
        message, "TLS-Report-Domain"
    )
    for part, octets in attachments(message):
        kind = part.get_content_type()
        expected = is_announced or "tlsrpt" in kind or FILE_NAME.match(file_name(part))
        try:
            text = unpacked(octets)
            if expected or b'"policies"' in text:
                return Report(ReportKind.TLS_REPORT, tls_report=parse_tls_report(text))
        except (CannotUnpack, NoReport) as error:
            trouble = trouble or (str(error) if expected else "")
    if is_announced and not trouble:
        trouble = "There is no report in it."
    return Report(ReportKind.TLS_REPORT, trouble=trouble) if trouble else None


def parse_tls_report(text: bytes) -> TlsReport:
    """Read the JSON (RFC 8460 §4.4); raises NoReport."""
    try:
        said = json.loads(text.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        raise NoReport("The JSON is broken.") from error
    if not isinstance(said, dict) or "policies" not in said:
        raise NoReport("The JSON is no TLS report.")
    span = _mapping(said.get("date-range"))
    begin = moment_of(span.get("start-datetime"))
    if begin is None:
        raise NoReport("The report does not say which time it is about.")
    policies = [policy for entry in _list(said["policies"])[:MAX_POLICIES] if (policy := _policy(_mapping(entry)))]
    if not policies:
        raise NoReport("The report names no domain.")
    return TlsReport(
        organisation=_text(said.get("organization-name")) or _text(said.get("contact-info")) or "unknown",
        report_id=_text(said.get("report-id")),
        begins_at=begin,
        ends_at=max(begin, moment_of(span.get("end-datetime")) or begin),
        contact=_text(said.get("contact-info")),
        policies=tuple(policies),
        left_out=_left_out(_list(said["policies"])),
    )


def _policy(entry: Mapping[str, Any]) -> TlsPolicy | None:
    """One policy's sessions; None without a domain."""
    policy, summary = _mapping(entry.get("policy")), _mapping(entry.get("summary"))
    try:
        domain = normalise_domain(_text(policy.get("policy-domain")))
    except InvalidDomain:
        return None
    failures = [_failure(_mapping(one)) for one in _list(entry.get("failure-details"))[:MAX_FAILURES]]
    return TlsPolicy(
        domain=domain,
        type=_text(policy.get("policy-type")).lower()[:40],
        succeeded=count_of(summary.get("total-successful-session-count")),
        failed=count_of(summary.get("total-failure-session-count")),
        failures=tuple(failures),
    )


def _failure(said: Mapping[str, Any]) -> TlsFailure:
    reason = _text(said.get("failure-reason-code"), MAX_REASON) or _text(
        said.get("additional-information") or said.get("additional-info-uri"), MAX_REASON
    )
    return TlsFailure(
        result_type=_text(said.get("result-type")).lower()[:60] or "unknown",
        sessions=count_of(said.get("failed-session-count")),
        receiving_mx=_text(said.get("receiving-mx-hostname") or said.get("receiving-mx-helo")),
        sending_ip=_text(said.get("sending-mta-ip"))[:45],
        receiving_ip=_text(said.get("receiving-ip"))[:45],
        reason=reason,
    )


def _left_out(policies: list[Any]) -> int:
    failures = [len(_list(_mapping(entry).get("failure-details"))) for entry in policies[:MAX_POLICIES]]
    return max(len(policies) - MAX_POLICIES, 0) + sum(max(number - MAX_FAILURES, 0) for number in failures)


def _mapping(said: object) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


def _list(said: object) -> list[Any]:
    """A list; a single object where a list belongs is one of one."""
    return said if isinstance(said, list) else [said] if isinstance(said, dict) else []


def _text(said: object, limit: int = MAX_NAME) -> str:
    return " ".join(clean(said, limit * 2).split())[:limit] if isinstance(said, str) else ""
