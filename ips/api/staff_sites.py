"""Receiving sites over the staff API: limits, pauses, lessons; and what TLS is asked of a domain."""

from dataclasses import fields as names_of
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from ips import sites, tls_policies
from ips.models import HeldSite, SiteLimit, SourceIp, TlsOverride, TlsRequirement
from projects.objects import timestamp
from projects.staff_endpoint import StaffEndpoint, page_of
from relay_project.mail.rates import Limits
from relay_project.web.describe import describe
from relay_project.web.errors import violation
from relay_project.web.fields import Fields
from relay_project.web.pagination import read_page, read_text
from relay_project.web.schema import (
    EMPTY_LIST,
    Schema,
    answer,
    body,
    boolean,
    choice,
    identifier,
    integer,
    listed,
    moment,
    nullable,
    page,
    string,
    text,
)

LIMITS = tuple(field.name for field in names_of(Limits))
NOT_A_DOMAIN = "This value is not a full domain name, nor *."
NO_ADDRESS = "There is no source IP with this id."
WHICH: dict[str, Schema] = {
    "site": text(
        "A provider's name such as `google`, or MX hosts joined by commas.", maximum=sites.MAX_SITE, blank=False
    ),
    "source_ip_id": identifier("Null: from every source IP."),
}
A_LIMIT = integer("", 1, sites.MAX_LIMIT)
SITE = answer(
    "SiteLimit",
    {
        "id": identifier(),
        "site": string(),
        "source_ip_id": nullable(identifier("Null: every source IP.")),
        **{name: nullable(integer()) for name in LIMITS},
        "paused_at": nullable(moment()),
        "pause_reason": string(),
        "learned_per_minute": nullable(integer()),
        "learned_connections": nullable(integer()),
        "learned_reply": string("What the site said."),
        "learned_at": nullable(moment()),
        "back_off_until": nullable(moment("Left alone until then.")),
    },
)
HELD = answer(
    "HeldSite",
    {
        "queue_id": identifier(),
        "source_ip_id": nullable(identifier("Null: any of the queue.")),
        "site": string(),
        "reason": string(),
        "next_slot": moment(),
    },
)
CHANGED = answer("Changed", {"changed": boolean("False: it was so already.")})
FORGOTTEN = answer("ChangedCount", {"changed_count": integer("How many rows.", 0)})
OVERRIDE = answer(
    "TlsOverride",
    {"id": identifier(), "domain": string(), "requirement": string(), "reason": string(), "changed_at": moment()},
)
NEW_OVERRIDE = body(
    "TlsOverrideChange",
    {"requirement": choice(TlsRequirement.values), "reason": text(blank=False)},
    ["requirement", "reason"],
)


class SitesView(StaffEndpoint):
    """`/sites`."""

    @describe(
        "listSites",
        "List limits, pauses and lessons of sites",
        query={**page(), "site": text("Only this one.")},
        answer=listed(SITE),
    )
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        rows: QuerySet[SiteLimit] = SiteLimit.objects.all()
        if site := read_text(request.query_params, "site"):
            rows = rows.filter(site=site.strip().lower())
        return Response([site_object(row) for row in page_of(rows, read_page(request.query_params))])


class HeldSitesView(StaffEndpoint):
    """`/sites/held`."""

    @describe("listHeldSites", "List sites that are held back now, and why", query=page(), answer=listed(HELD))
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        rows = HeldSite.objects.filter(sites.held_now(datetime.now(UTC)))
        return Response([held_object(row) for row in page_of(rows, read_page(request.query_params))])


class SiteLimitsView(StaffEndpoint):
    """`/sites/limits`."""

    @describe(
        "setSiteLimits",
        "Set the limits of a site",
        "All of them: what is null or left out goes by what is more general. The same call twice changes nothing.",
        body=body("SiteLimits", {**WHICH, **dict.fromkeys(LIMITS, A_LIMIT)}, ["site"]),
        example={"site": "google", "per_minute": 600, "connections": 5},
        answer=CHANGED,
    )
    def put(self, request: Request) -> Response:
        """Let these hold."""
        fields = self.fields()
        site, source_ip = _which(fields)
        wanted = {name: fields.integer(name) for name in LIMITS}
        for name, value in wanted.items():
            if value is not None and not 1 <= value <= sites.MAX_LIMIT:
                fields.note(name, f"This value should be between 1 and {sites.MAX_LIMIT}.")
        fields.check()
        changed = sites.set_limits(site, Limits(**wanted), source_ip=source_ip, now=datetime.now(UTC), **self.by)
        return Response({"changed": changed})


class PauseSiteView(StaffEndpoint):
    """`/sites/pause`."""

    @describe(
        "pauseSite",
        "Start no more mail to a site",
        body=body("PauseSite", {**WHICH, "reason": text(blank=False)}, ["site", "reason"]),
        example={"site": "google", "reason": "They asked us to."},
        answer=CHANGED,
    )
    def post(self, request: Request) -> Response:
        """Pause it."""
        fields = self.fields()
        site, source_ip = _which(fields)
        reason = fields.text("reason", required=True) or ""
        fields.check()
        now = datetime.now(UTC)
        return Response({"changed": sites.pause_site(site, source_ip=source_ip, reason=reason, now=now, **self.by)})


WHICH_SITE = body("WhichSite", WHICH, ["site"])


class ResumeSiteView(StaffEndpoint):
    """`/sites/resume`."""

    @describe("resumeSite", "Let mail go to a site again", body=WHICH_SITE, answer=CHANGED)
    def post(self, request: Request) -> Response:
        """Resume it."""
        fields = self.fields()
        site, source_ip = _which(fields)
        fields.check()
        return Response({"changed": sites.resume_site(site, source_ip=source_ip, now=datetime.now(UTC), **self.by)})


class FlushSiteView(StaffEndpoint):
    """`/sites/flush`."""

    @describe("flushSite", "End the pauses that a site asked for by its replies", body=WHICH_SITE, answer=FORGOTTEN)
    def post(self, request: Request) -> Response:
        """Try again now; what was learned of its pace stays."""
        fields = self.fields()
        site, source_ip = _which(fields)
        fields.check()
        return Response({"changed_count": sites.flush(site, source_ip=source_ip, now=datetime.now(UTC), **self.by)})


class ForgetSiteView(StaffEndpoint):
    """`/sites/forget`."""

    @describe("forgetSite", "Forget what a site has taught", body=WHICH_SITE, answer=FORGOTTEN)
    def post(self, request: Request) -> Response:
        """Begin anew."""
        fields = self.fields()
        site, source_ip = _which(fields)
        fields.check()
        now = datetime.now(UTC)
        return Response({"changed_count": sites.forget_learned(site, source_ip=source_ip, now=now, **self.by)})


class TlsOverridesView(StaffEndpoint):
    """`/tls-overrides`."""

    @describe("listTlsOverrides", "List decisions about TLS", query=page(), answer=listed(OVERRIDE))
    def get(self, request: Request) -> Response:
        """A page, the newest first."""
        rows: QuerySet[TlsOverride] = TlsOverride.objects.all()
        return Response([override_object(row) for row in page_of(rows, read_page(request.query_params))])


class TlsOverrideView(StaffEndpoint):
    """`/tls-overrides/{domain}`; `*` is for all domains that publish nothing."""

    @describe(
        "setTlsOverride",
        "Decide what TLS is asked of a domain",
        "The same call twice changes nothing.",
        body=NEW_OVERRIDE,
        example={"requirement": "verified", "reason": "Agreed with them."},
        answer=OVERRIDE,
    )
    def put(self, request: Request, domain: str) -> Response:
        """Above what it publishes."""
        fields = self.fields()
        requirement = fields.choice("requirement", TlsRequirement.values, required=True)
        reason = fields.text("reason", required=True) or ""
        fields.check()
        name = _domain(domain)
        now = datetime.now(UTC)
        tls_policies.set_override(name, TlsRequirement(requirement or ""), reason=reason, now=now, **self.by)
        return Response(override_object(TlsOverride.objects.get(domain=name)))

    @describe("removeTlsOverride", "Go by what a domain publishes again", answer=EMPTY_LIST)
    def delete(self, request: Request, domain: str) -> Response:
        """Remove the decision; one that is not there is gone already."""
        for override in TlsOverride.objects.filter(domain=_domain(domain)):
            tls_policies.remove_override(override, **self.by)
        return Response([])


def site_object(row: SiteLimit) -> dict[str, Any]:
    """SiteLimit."""
    moments = ("paused_at", "learned_at", "back_off_until")
    plain = (
        "site",
        "source_ip_id",
        *LIMITS,
        "pause_reason",
        "learned_per_minute",
        "learned_connections",
        "learned_reply",
    )
    return {
        "id": row.pk,
        **{name: getattr(row, name) for name in plain},
        **{name: timestamp(getattr(row, name)) for name in moments},
    }


def held_object(row: HeldSite) -> dict[str, Any]:
    """HeldSite."""
    return {
        "queue_id": row.queue_id,
        "source_ip_id": row.source_ip_id,
        "site": row.site,
        "reason": row.reason,
        "next_slot": timestamp(row.next_slot),
    }


def override_object(row: TlsOverride) -> dict[str, Any]:
    """TlsOverride."""
    return {
        "id": row.pk,
        "domain": row.domain,
        "requirement": row.requirement,
        "reason": row.reason,
        "changed_at": timestamp(row.changed_at),
    }


def _which(fields: Fields) -> tuple[str, SourceIp | None]:
    """The site and the source IP that a body names; what is wrong is noted."""
    site = fields.text("site", required=True, maximum=sites.MAX_SITE) or ""
    source_ip_id = fields.integer("source_ip_id")
    source_ip = SourceIp.objects.filter(pk=source_ip_id).first() if source_ip_id is not None else None
    if source_ip_id is not None and source_ip is None:
        fields.note("source_ip_id", NO_ADDRESS)
    return site, source_ip


def _domain(raw: str) -> str:
    try:
        return tls_policies.read_domain(raw)
    except ValueError:
        raise violation("domain", NOT_A_DOMAIN) from None
