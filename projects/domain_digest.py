"""What the reports about a domain say together, for who sends from it: sums, reporters, sources, failures, advice."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from projects.models import Domain, DomainReport, DomainReportKind, ReturnPathStatus
from projects.models.domain import MAY_SEND

DAYS = 30  # looked back, unless asked otherwise
MAX_DAYS = 90
MAX_SHOWN = 50  # reporters, sources and kinds of failures, the greatest

_ASKED = "domain = %(domain)s AND begins_at >= %(since)s"
_COUNTED = {
    "total": "total",
    "passed": "passed",
    "dkim": "dkim_passed",
    "spf": "spf_passed",
    "quarantined": "quarantined",
    "rejected": "rejected",
}
_OURS = {name: name for name in ("ours", "ours_passed", "ours_dkim", "ours_spf")}


def _sums(columns: dict[str, str]) -> str:
    return ", ".join(f"sum({column})::bigint AS {name}" for name, column in columns.items())


_SUMS = f"""
SELECT kind, count(*) AS reports, {_sums(_COUNTED | _OURS)}
  FROM projects_domainreport WHERE {_ASKED} GROUP BY kind
"""  # noqa: S608 — constants, here and below
_REPORTERS = f"""
SELECT organisation, count(*) AS reports, {_sums(_COUNTED)}, sum(total - passed)::bigint AS failed, max(ends_at) AS last_at
  FROM projects_domainreport WHERE {_ASKED} AND kind = %(kind)s
 GROUP BY organisation ORDER BY total DESC, organisation LIMIT %(shown)s
"""  # noqa: S608
_SOURCES = f"""
SELECT source ->> 'address' AS address, sum((source ->> 'messages')::bigint)::bigint AS messages,
       sum((source ->> 'aligned')::bigint)::bigint AS aligned, sum((source ->> 'dkim')::bigint)::bigint AS dkim,
       sum((source ->> 'spf')::bigint)::bigint AS spf, count(DISTINCT organisation) AS reporters,
       array_remove(array_agg(DISTINCT source -> 'signers' ->> 0), NULL) AS signers
  FROM projects_domainreport, jsonb_array_elements(details) AS source
 WHERE {_ASKED} AND kind = 'dmarc' AND NOT (source ->> 'is_ours')::boolean
 GROUP BY 1 ORDER BY messages DESC, address LIMIT %(shown)s
"""  # noqa: S608
_FAILURES = f"""
SELECT failure ->> 'type' AS result_type, failure ->> 'mx' AS receiving_mx,
       sum((failure ->> 'sessions')::bigint)::bigint AS sessions, max(failure ->> 'reason') AS reason
  FROM projects_domainreport, jsonb_array_elements(details) AS failure
 WHERE {_ASKED} AND kind = 'tls'
 GROUP BY 1, 2 ORDER BY sessions DESC, 1, 2 LIMIT %(shown)s
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over reports; messages of DMARC, sessions of TLS."""

    reports: int = 0
    total: int = 0
    passed: int = 0
    dkim: int = 0
    spf: int = 0
    quarantined: int = 0
    rejected: int = 0
    ours: int = 0
    ours_passed: int = 0
    ours_dkim: int = 0
    ours_spf: int = 0


@dataclass(frozen=True, slots=True)
class Digest:
    """What was reported of a domain since a moment. `is_shown`: reports are for who has shown that the domain is theirs."""

    domain: str
    since: datetime
    is_shown: bool = False
    has_return_path: bool = False
    dmarc: Totals = field(default_factory=Totals)
    tls: Totals = field(default_factory=Totals)
    policy: dict[str, Any] | None = None
    receivers: list[dict[str, Any]] = field(default_factory=list)
    senders: list[dict[str, Any]] = field(default_factory=list)
    other_sources: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def digest(domain: Domain, now: datetime, days: int = DAYS) -> Digest:
    """What came in about the domain's name in the last days. Nothing for a domain that may not send."""
    since = now - timedelta(days=days)
    has_return_path = domain.return_path_status == ReturnPathStatus.ACTIVE and domain.return_path is not None
    if domain.status not in MAY_SEND:
        return Digest(domain.domain, since, has_return_path=has_return_path)
    asked = {"domain": domain.domain, "since": since, "shown": MAX_SHOWN}
    sums = {row.pop("kind"): Totals(**row) for row in _all(_SUMS, asked)}
    if not sums:
        return Digest(domain.domain, since, is_shown=True, has_return_path=has_return_path)
    latest = DomainReport.objects.filter(
        domain=domain.domain, begins_at__gte=since, kind=DomainReportKind.DMARC
    ).first()
    return Digest(
        domain.domain,
        since,
        is_shown=True,
        has_return_path=has_return_path,
        dmarc=sums.get("dmarc", Totals()),
        tls=sums.get("tls", Totals()),
        policy=None if latest is None else latest.policy,
        receivers=_all(_REPORTERS, {**asked, "kind": DomainReportKind.DMARC}),
        senders=_all(_REPORTERS, {**asked, "kind": DomainReportKind.TLS}),
        other_sources=_all(_SOURCES, asked),
        failures=_all(_FAILURES, asked),
    )


def _all(statement: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, asked)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
