"""Reports about domains: stored once each, for domains that may send here and no others."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.backends.utils import CursorWrapper

from projects.models.domain import MAY_SEND
from projects.models.report import DomainReportKind

DMARC_ADDRESS, TLS_ADDRESS = "dmarc", "tls-reports"  # at the instance domain: where reports are sent to
MAX_A_DAY = 200  # reports of one kind stored for one domain in a day; the best known domains get about a hundred
OLDEST, AHEAD = timedelta(days=90), timedelta(days=2)  # what is about another time is no report of ours

_KNOWN = "SELECT DISTINCT domain FROM projects_domain WHERE domain = ANY(%s) AND status = ANY(%s)"
_STORED = """
SELECT domain, kind, count(*) FROM projects_domainreport
 WHERE domain = ANY(%s) AND received_at > %s GROUP BY domain, kind
"""
_COLUMNS = (
    "kind", "domain", "organisation", "report_id", "contact", "begins_at", "ends_at", "total", "passed", "dkim_passed",
    "spf_passed", "quarantined", "rejected", "ours", "ours_passed", "ours_dkim", "ours_spf", "policy", "details", "left_out",
)  # fmt: skip
_INSERT = f"""
INSERT INTO projects_domainreport ({", ".join(_COLUMNS)})
SELECT {", ".join(_COLUMNS)} FROM json_populate_recordset(NULL::projects_domainreport, %s)
    ON CONFLICT (domain, kind, organisation, report_id) DO NOTHING
RETURNING 1
"""  # noqa: S608 — constants


@dataclass(frozen=True, slots=True)
class NewReport:
    """What one organisation reports of one domain; the columns of DomainReport."""

    kind: DomainReportKind
    domain: str
    organisation: str
    report_id: str
    contact: str
    begins_at: datetime
    ends_at: datetime
    total: int
    passed: int
    dkim_passed: int = 0
    spf_passed: int = 0
    quarantined: int = 0
    rejected: int = 0
    ours: int = 0
    ours_passed: int = 0
    ours_dkim: int = 0
    ours_spf: int = 0
    policy: dict[str, Any] = field(default_factory=dict)
    details: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """How many of the reports are new, and were stored; how many were here before; how many there were too many of."""

    stored: int = 0
    duplicate: int = 0
    excess: int = 0


def reporting_address(local: str) -> str:
    """Where reports about domains are sent to: `dmarc@` or `tls-reports@` the instance domain."""
    return f"{local}@{settings.INSTANCE_DOMAIN}"


def known_domains(cursor: CursorWrapper, names: Iterable[str]) -> set[str]:
    """Those of the names that a project may send from, and the instance domain: whose DNS was seen to be theirs."""
    wanted = list(dict.fromkeys(names))
    cursor.execute(_KNOWN, [wanted, [str(status) for status in MAY_SEND]])
    return {name for (name,) in cursor.fetchall()} | ({settings.INSTANCE_DOMAIN} & set(wanted))


def is_plausible(begins_at: datetime, ends_at: datetime, now: datetime) -> bool:
    """Whether a report is about a time that mail of ours may be from."""
    return now - OLDEST <= begins_at and ends_at <= now + AHEAD


def store(cursor: CursorWrapper, reports: Sequence[NewReport], now: datetime) -> Stored:
    """Store reports about known domains, in the caller's transaction; a second time changes nothing."""
    if not reports:
        return Stored()
    # in one order, so that two readers with the same reports do not wait for each other crosswise
    ordered = sorted(reports, key=lambda one: (one.domain, one.kind, one.organisation, one.report_id))
    kept = _within_rate(cursor, ordered, now)
    cursor.execute(_INSERT, [json.dumps([_row(report) for report in kept])])
    stored = len(cursor.fetchall())
    return Stored(stored, len(kept) - stored, len(ordered) - len(kept))


def _within_rate(cursor: CursorWrapper, reports: Sequence[NewReport], now: datetime) -> list[NewReport]:
    cursor.execute(_STORED, [list({report.domain for report in reports}), now - timedelta(days=1)])
    counts = {(domain, kind): number for domain, kind, number in cursor.fetchall()}
    kept = []
    for report in reports:
        key = (report.domain, str(report.kind))
        if counts.get(key, 0) < MAX_A_DAY:
            counts[key] = counts.get(key, 0) + 1
            kept.append(report)
    return kept


def _row(report: NewReport) -> dict[str, Any]:
    return {**asdict(report), "begins_at": report.begins_at.isoformat(), "ends_at": report.ends_at.isoformat()}
