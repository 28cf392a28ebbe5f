"""DMARC and TLS reports that came in by mail become rows for the domains they are about.

Enters: reports as `parse_report` read them. Leaves: a DomainReport for each domain of ours that one names, in the
transaction of the reader. A report about nobody's domain here is counted and dropped: anybody can send one.
"""

from collections import Counter as Sums
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import structlog
from django.db.backends.utils import CursorWrapper

from projects.domain_reports import NewReport, is_plausible, known_domains, store
from projects.models import DomainReportKind
from relay_project.mail.reports.facts import DmarcReport, DmarcRow, TlsPolicy, TlsReport
from relay_project.mail.reports.model import Report
from relay_project.metrics import Counter

REPORTS = Counter("relay_domain_reports_total", "Reports about domains that came in by mail.", ["kind", "outcome"])

MAX_SOURCES = 50  # kept of one report, those with the most messages
MAX_FAILURES = 50  # kinds of failures of one report
MAX_NAMES = 200  # domains of one report that are looked up; an honest one has a few
MAX_WORDS = 5  # signers and reasons of one source

# Gone ones as well: a report is about yesterday.
_ADDRESSES = "SELECT host(address) FROM ips_sourceip WHERE address = ANY(%s::inet[])"

log = structlog.get_logger(__name__)


def keep(cursor: CursorWrapper, reports: Sequence[Report], now: datetime) -> list[bool]:
    """Store what the reports say of domains of ours; which of them are about one, new or said before."""
    said = [report.dmarc_report or report.tls_report for report in reports]
    kept = [False] * len(said)
    # in one order, so that two readers with the same reports do not wait for each other crosswise
    for at, one in sorted(((at, one) for at, one in enumerate(said) if one), key=_by_report):
        kept[at] = _keep(cursor, one, now)
    return kept


def _by_report(numbered: tuple[int, DmarcReport | TlsReport]) -> tuple[str, str]:
    return numbered[1].organisation, numbered[1].report_id


def _keep(cursor: CursorWrapper, said: DmarcReport | TlsReport, now: datetime) -> bool:
    kind = DomainReportKind.DMARC if isinstance(said, DmarcReport) else DomainReportKind.TLS
    outcome = _store(cursor, said, now) if is_plausible(said.begins_at, said.ends_at, now) else "implausible"
    REPORTS.labels(kind.value, outcome).inc()
    log.info("inbound.domain_report", kind=kind.value, outcome=outcome, organisation=said.organisation)
    return outcome in ("stored", "duplicate")


def _store(cursor: CursorWrapper, said: DmarcReport | TlsReport, now: datetime) -> str:
    """What became of it, as the metric names it."""
    rows = _rows(cursor, said)
    stored = store(cursor, rows, now)
    if stored.stored or stored.duplicate:
        return "stored" if stored.stored else "duplicate"
    return "excess" if rows else "foreign"


def _rows(cursor: CursorWrapper, said: DmarcReport | TlsReport) -> list[NewReport]:
    if isinstance(said, TlsReport):
        return list(_tls_rows(said, known_domains(cursor, [policy.domain for policy in said.policies])))
    return list(_dmarc_rows(cursor, said, known_domains(cursor, _names(said))))


def _shared(said: DmarcReport | TlsReport) -> dict[str, Any]:
    """The columns that both kinds have."""
    return {
        "organisation": said.organisation,
        "report_id": said.report_id or said.begins_at.isoformat(),
        "contact": said.contact,
        "begins_at": said.begins_at,
        "ends_at": said.ends_at,
    }


# --- DMARC ---------------------------------------------------------------------------------------------------------


def _names(said: DmarcReport) -> list[str]:
    """Every domain that the report may be for: its own, those in From, and those above them."""
    names = {said.domain: None}
    for header_from in dict.fromkeys(row.header_from for row in said.rows):
        labels = header_from.split(".")
        names.update(dict.fromkeys(".".join(labels[at:]) for at in range(len(labels) - 1)))
        if len(names) > MAX_NAMES:
            break
    return list(names)


def _dmarc_rows(cursor: CursorWrapper, said: DmarcReport, known: set[str]) -> Iterator[NewReport]:
    """A row for each known domain: of all mail for the policy's own, else of what was sent from it or from below it."""
    by_domain = {domain: _rows_of(said, domain) for domain in sorted(known)}
    ours = _source_ips(cursor, {row.source_ip for rows in by_domain.values() for row in rows})
    for domain, rows in by_domain.items():
        if rows or domain == said.domain:
            yield _dmarc_row(said, domain, rows, ours)


def _rows_of(said: DmarcReport, domain: str) -> list[DmarcRow]:
    if domain == said.domain:
        return list(said.rows)
    return [row for row in said.rows if row.header_from == domain or row.header_from.endswith(f".{domain}")]


def _source_ips(cursor: CursorWrapper, addresses: set[str]) -> set[str]:
    """Those of the addresses, as they were written, that are or were source IPs of ours."""
    written = {address: canonical for address in addresses if (canonical := _canonical(address))}
    cursor.execute(_ADDRESSES, [list(set(written.values()))])
    found = {address for (address,) in cursor.fetchall()}
    return {address for address, canonical in written.items() if canonical in found}


def _canonical(address: str) -> str:
    """An address in the one spelling of the database; empty for what is none."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _dmarc_row(said: DmarcReport, domain: str, rows: list[DmarcRow], ours: set[str]) -> NewReport:
    own = [row for row in rows if row.source_ip in ours]
    sources = sorted(_sources(rows, ours), key=lambda source: -source["messages"])
    return NewReport(
        kind=DomainReportKind.DMARC,
        domain=domain,
        **_shared(said),
        total=_sum(rows),
        passed=_sum(row for row in rows if row.is_aligned),
        dkim_passed=_sum(row for row in rows if row.dkim),
        spf_passed=_sum(row for row in rows if row.spf),
        quarantined=_sum(row for row in rows if row.disposition == "quarantine"),
        rejected=_sum(row for row in rows if row.disposition == "reject"),
        ours=_sum(own),
        ours_passed=_sum(row for row in own if row.is_aligned),
        ours_dkim=_sum(row for row in own if row.dkim),
        ours_spf=_sum(row for row in own if row.spf),
        policy=_policy(said),
        details=sources[:MAX_SOURCES],
        left_out=len(sources[MAX_SOURCES:]) + said.left_out,
    )


def _sum(rows: Iterable[DmarcRow]) -> int:
    return sum(row.messages for row in rows)


def _policy(said: DmarcReport) -> dict[str, Any]:
    return {
        "domain": said.domain,
        "p": said.policy,
        "sp": said.subdomain_policy,
        "pct": said.percent,
        "adkim": "s" if said.strict_dkim else "r",
        "aspf": "s" if said.strict_spf else "r",
        "testing": said.is_testing,
    }


def _sources(rows: list[DmarcRow], ours: set[str]) -> Iterator[dict[str, Any]]:
    """What each address sent, summed up."""
    by_address: dict[str, list[DmarcRow]] = defaultdict(list)
    for row in rows:
        by_address[row.source_ip].append(row)
    for address, own in by_address.items():
        passed = {result.domain for row in own for result in row.dkim_results if result.result == "pass"}
        yield {
            "address": address,
            "is_ours": address in ours,
            "messages": _sum(own),
            "aligned": _sum(row for row in own if row.is_aligned),
            "dkim": _sum(row for row in own if row.dkim),
            "spf": _sum(row for row in own if row.spf),
            "signers": sorted(passed - {""})[:MAX_WORDS],
            "reasons": sorted({reason for row in own for reason in row.reasons})[:MAX_WORDS],
        }


# --- TLS -----------------------------------------------------------------------------------------------------------


def _tls_rows(said: TlsReport, known: set[str]) -> Iterator[NewReport]:
    for domain in sorted(known):
        policies = [policy for policy in said.policies if policy.domain == domain]
        failures = sorted(_failures(policies), key=lambda failure: -failure["sessions"])
        succeeded, failed = sum(one.succeeded for one in policies), sum(one.failed for one in policies)
        yield NewReport(
            kind=DomainReportKind.TLS,
            domain=domain,
            **_shared(said),
            total=succeeded + failed,
            passed=succeeded,
            policy={"types": sorted({one.type for one in policies if one.type})[:MAX_WORDS]},
            details=failures[:MAX_FAILURES],
            left_out=len(failures[MAX_FAILURES:]) + said.left_out,
        )


def _failures(policies: list[TlsPolicy]) -> Iterator[dict[str, Any]]:
    """Failures of one kind at one host, summed up."""
    sums: Sums[tuple[str, str]] = Sums()
    reasons: dict[tuple[str, str], str] = {}
    for failure in (failure for policy in policies for failure in policy.failures):
        key = (failure.result_type, failure.receiving_mx)
        sums[key] += failure.sessions
        reasons[key] = reasons.get(key) or failure.reason
    for (result_type, host), sessions in sums.items():
        yield {"type": result_type, "mx": host, "sessions": sessions, "reason": reasons[result_type, host]}
