"""How many incidents are open: for metrics, health and the staff's first page."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q

from ips.models import Incident, IncidentCause
from relay_project.metrics import Gauge

OPEN = Gauge("relay_incidents_open", "Incidents that nobody has closed, by cause.", ["cause"])

# What does not mend itself: mail is refused for good until somebody does something. Rates Relay lowers by itself.
ALARMING = (IncidentCause.IP_REPUTATION, IncidentCause.AUTHENTICATION, IncidentCause.DNS)
GRACE = timedelta(hours=1)  # an incident younger than this raises no alarm: one odd reply is no emergency
FRESH = timedelta(days=1)  # nor does one that was not seen for so long


@dataclass(frozen=True, slots=True)
class OpenIncidents:
    """Numbers by cause; `alarming`: open for an hour, seen within a day, and nobody has acknowledged them."""

    by_cause: Mapping[str, int]
    alarming: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_cause.values())


def read_open(now: datetime) -> OpenIncidents:
    """One look at the open ones; closed ones do not slow it (a partial index)."""
    alarming = Q(cause__in=ALARMING, acknowledged_at=None, opened_at__lt=now - GRACE, last_seen_at__gt=now - FRESH)
    rows = (
        Incident.objects.filter(closed_at=None)
        .order_by()
        .values_list("cause")
        .annotate(number=Count("pk"), urgent=Count("pk", filter=alarming))
    )
    found = list(rows)
    return OpenIncidents({cause: number for cause, number, _ in found}, sum(urgent for *_, urgent in found))


def show(incidents: OpenIncidents) -> None:
    """Set the metric; a cause without incidents shows 0."""
    for cause in IncidentCause.values:
        OPEN.labels(cause).set(incidents.by_cause.get(cause, 0))
