"""The staff API's URLs of this floor, under /api/sudo/."""

from django.urls import path

from ips.api.staff import AddressesView, AddressView, HealthChecksView, ServersView, ServerView
from ips.api.staff_incidents import BouncesView, IncidentsView, IncidentView, MarkBouncesView, MarkBounceView
from ips.api.staff_sites import (
    FlushSiteView,
    ForgetSiteView,
    HeldSitesView,
    PauseSiteView,
    ResumeSiteView,
    SiteLimitsView,
    SitesView,
    TlsOverridesView,
    TlsOverrideView,
)

staff_urlpatterns = [
    path("servers", ServersView.as_view()),
    path("servers/<str:server_id>", ServerView.as_view()),
    path("ip-addresses", AddressesView.as_view()),
    path("ip-addresses/<str:address_id>", AddressView.as_view()),
    path("health-checks", HealthChecksView.as_view()),
    path("incidents", IncidentsView.as_view()),
    path("incidents/<str:incident_id>", IncidentView.as_view()),
    path("infrastructure-bounces", BouncesView.as_view()),
    path("infrastructure-bounces/mark-all-as-read", MarkBouncesView.as_view()),
    path("infrastructure-bounces/<str:incident_id>/mark-as-read", MarkBounceView.as_view()),
    path("sites", SitesView.as_view()),
    path("sites/held", HeldSitesView.as_view()),
    path("sites/limits", SiteLimitsView.as_view()),
    path("sites/pause", PauseSiteView.as_view()),
    path("sites/resume", ResumeSiteView.as_view()),
    path("sites/flush", FlushSiteView.as_view()),
    path("sites/forget", ForgetSiteView.as_view()),
    path("tls-overrides", TlsOverridesView.as_view()),
    path("tls-overrides/<str:domain>", TlsOverrideView.as_view()),
]
