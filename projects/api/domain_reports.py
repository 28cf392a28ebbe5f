"""What receivers and senders report of a domain by mail, over the API."""

from datetime import UTC, datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from projects.api.one_domain import ABSENT, domain_of_path
from projects.domain_digest import DAYS, MAX_DAYS, Digest, Totals, digest
from projects.endpoint import Endpoint
from projects.objects import timestamp
from projects.report_advice import Level, advice_of, failure_advice
from projects.scopes import Scope, by_method
from relay_project.web.describe import describe
from relay_project.web.pagination import read_number, within
from relay_project.web.schema import (
    Schema,
    answer,
    boolean,
    choice,
    integer,
    listed,
    moment,
    nullable,
    string,
)

_MESSAGES: dict[str, Schema] = {
    "reports": integer(least=0),
    "messages": integer(least=0),
    "aligned": integer("That passed DMARC, by either.", 0),
    "dkim_aligned": integer(least=0),
    "spf_aligned": integer(least=0),
    "quarantined": integer(least=0),
    "rejected": integer(least=0),
}
_POLICY = answer(
    "ReportedPolicy",
    {
        "domain": string("Where it is published."),
        "p": string(examples=["none"]),
        "sp": string("For subdomains; empty: as `p`."),
        "pct": nullable(integer(least=0, most=100)),
        "adkim": choice(("r", "s")),
        "aspf": choice(("r", "s")),
        "testing": boolean(),
    },
)
_RECEIVER = answer(
    "ReportingReceiver",
    {"organisation": string("As it calls itself."), **_MESSAGES, "last_report_at": moment()},
)
_SOURCE = answer(
    "ReportedSource",
    {
        "address": string(),
        "messages": integer(least=0),
        "aligned": integer(least=0),
        "dkim_aligned": integer(least=0),
        "spf_aligned": integer(least=0),
        "reporters": integer("How many organisations saw it.", 0),
        "signers": listed(string(), "Domains whose signatures passed."),
    },
)
_OURS = answer(
    "ReportedOurs",
    {
        "messages": integer("From source IPs of this installation.", 0),
        "aligned": integer(least=0),
        "dkim_aligned": integer(least=0),
        "spf_aligned": integer(least=0),
    },
)
_DMARC = answer(
    "DomainDmarc",
    {
        **_MESSAGES,
        "ours": _OURS,
        "policy": nullable(_POLICY),
        "receivers": listed(_RECEIVER, "Those with the most messages."),
        "other_sources": listed(_SOURCE, "Addresses that are not this installation's, those with the most messages."),
    },
)
_SENDER = answer(
    "ReportingSender",
    {
        "organisation": string(),
        "reports": integer(least=0),
        "succeeded": integer(least=0),
        "failed": integer(least=0),
        "last_report_at": moment(),
    },
)
_FAILURE = answer(
    "ReportedTlsFailure",
    {
        "result_type": string("RFC 8460 §4.3.", examples=["certificate-expired"]),
        "receiving_mx": string(),
        "sessions": integer(least=0),
        "reason": string("What a sender said beside."),
        "advice": string(),
    },
)
_TLS = answer(
    "DomainTls",
    {
        "reports": integer(least=0),
        "succeeded": integer("Sessions.", 0),
        "failed": integer(least=0),
        "senders": listed(_SENDER),
        "failures": listed(_FAILURE, "Kinds of failures at the domain's mail servers, the most frequent."),
    },
)
DOMAIN_REPORTS = answer(
    "DomainReports",
    {
        "domain": string(),
        "since": moment(),
        "dmarc": _DMARC,
        "tls": _TLS,
        "advice": listed(answer("ReportAdvice", {"level": choice(Level), "text": string()}), "The most urgent first."),
    },
)
EXAMPLE_DOMAIN_REPORTS = {
    "domain": "example.com",
    "since": 1792723070,
    "dmarc": {
        "reports": 1,
        "messages": 100,
        "aligned": 90,
        "dkim_aligned": 90,
        "spf_aligned": 0,
        "quarantined": 10,
        "rejected": 0,
        "ours": {"messages": 90, "aligned": 90, "dkim_aligned": 90, "spf_aligned": 0},
        "policy": {
            "domain": "example.com",
            "p": "quarantine",
            "sp": "",
            "pct": 100,
            "adkim": "r",
            "aspf": "r",
            "testing": False,
        },
        "receivers": [
            {
                "organisation": "receiver.example",
                "reports": 1,
                "messages": 100,
                "aligned": 90,
                "dkim_aligned": 90,
                "spf_aligned": 0,
                "quarantined": 10,
                "rejected": 0,
                "last_report_at": 1795315070,
            }
        ],
        "other_sources": [
            {
                "address": "198.51.100.3",
                "messages": 10,
                "aligned": 0,
                "dkim_aligned": 0,
                "spf_aligned": 0,
                "reporters": 1,
                "signers": [],
            }
        ],
    },
    "tls": {"reports": 0, "succeeded": 0, "failed": 0, "senders": [], "failures": []},
    "advice": [{"level": "ok", "text": "All of the mail that left from here passed DMARC."}],
}


class DomainReportsView(Endpoint):
    """`/domains/{domain}/reports`."""

    section = "Domains"
    required_scope = by_method(GET=Scope.DOMAINS_READ)

    @describe(
        "getDomainReports",
        "See what receivers report of a domain",
        "DMARC aggregate reports and TLS reports that came in by mail, summed up. Nothing before the domain is verified.",
        query={"days": integer("How far back.", 1, MAX_DAYS, default=DAYS)},
        answer=DOMAIN_REPORTS,
        sample=EXAMPLE_DOMAIN_REPORTS,
        refusals=ABSENT,
    )
    def get(self, request: Request, domain: str) -> Response:
        """The sums, and what to do about them."""
        found = domain_of_path(self, domain)
        asked = read_number(request.query_params, "days")
        days = DAYS if asked is None else within("days", asked, 1, MAX_DAYS)
        return Response(reports_object(digest(found, datetime.now(UTC), days)))


def reports_object(said: Digest) -> dict[str, Any]:
    """A digest as the API shows it."""
    sums = said.dmarc
    return {
        "domain": said.domain,
        "since": timestamp(said.since),
        "dmarc": {
            **_messages(sums),
            "ours": {
                "messages": sums.ours,
                "aligned": sums.ours_passed,
                "dkim_aligned": sums.ours_dkim,
                "spf_aligned": sums.ours_spf,
            },
            "policy": said.policy,
            "receivers": [
                {
                    "organisation": row["organisation"],
                    **_messages(Totals(**{name: row[name] for name in _COUNTED})),
                    "last_report_at": timestamp(row["last_at"]),
                }
                for row in said.receivers
            ],
            "other_sources": [
                {
                    "address": row["address"],
                    "messages": row["messages"],
                    "aligned": row["aligned"],
                    "dkim_aligned": row["dkim"],
                    "spf_aligned": row["spf"],
                    "reporters": row["reporters"],
                    "signers": row["signers"],
                }
                for row in said.other_sources
            ],
        },
        "tls": _tls_object(said),
        "advice": [{"level": str(one.level), "text": one.text} for one in advice_of(said)],
    }


_COUNTED = ("reports", "total", "passed", "dkim", "spf", "quarantined", "rejected")


def _messages(sums: Totals) -> dict[str, int]:
    return {
        "reports": sums.reports,
        "messages": sums.total,
        "aligned": sums.passed,
        "dkim_aligned": sums.dkim,
        "spf_aligned": sums.spf,
        "quarantined": sums.quarantined,
        "rejected": sums.rejected,
    }


def _tls_object(said: Digest) -> dict[str, Any]:
    return {
        "reports": said.tls.reports,
        "succeeded": said.tls.passed,
        "failed": said.tls.total - said.tls.passed,
        "senders": [
            {
                "organisation": row["organisation"],
                "reports": row["reports"],
                "succeeded": row["passed"],
                "failed": row["failed"],
                "last_report_at": timestamp(row["last_at"]),
            }
            for row in said.senders
        ],
        "failures": [{**row, "advice": failure_advice(row["result_type"])} for row in said.failures],
    }
