"""What becomes of open incidents by itself, once a minute: those that stopped are closed, and where many attempts met one
in short time its site is paused for its source IP, if settings say so. Nothing of it is on the way of a mail.
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from ips import incidents, sites
from ips.models import Incident, IncidentCause, SiteLimit
from relay_project.metrics import Counter

# What going on makes worse. Rates Relay lowers by itself, and protocol trouble does not come from the address.
PAUSING = (IncidentCause.IP_REPUTATION, IncidentCause.AUTHENTICATION, IncidentCause.DNS)

CLOSED = Counter("relay_incidents_stopped_total", "Incidents closed because they were not seen any more.")
PAUSED = Counter("relay_incident_pauses_total", "Sites paused for a source IP because of many refusals.")

log = structlog.get_logger(__name__)


def close_stopped(now: datetime) -> int:
    """Close what was not seen for INCIDENT_CLOSE_HOURS; returns how many.

    A pair that stands still shows nothing: as long as staff or Relay have paused the site, its incidents stay.
    """
    hours = settings.INCIDENT_CLOSE_HOURS
    if not hours:
        return 0
    is_paused = SiteLimit.objects.filter(
        Q(source_ip=OuterRef("source_ip")) | Q(source_ip=None), site=OuterRef("site")
    ).exclude(paused_at=None)
    silent = Incident.objects.filter(~Exists(is_paused), closed_at=None, last_seen_at__lt=now - timedelta(hours=hours))
    note = f"Not seen for {hours} hours."
    closed = sum(incidents.close(each, note, now, actor=None, actor_label=incidents.RELAY) for each in silent)
    CLOSED.inc(closed)
    return closed


def pause_pairs(now: datetime) -> int:
    """Pause the sites for the source IPs that were refused INCIDENT_PAUSE_LIMIT times within the window; returns how many.

    After staff resume one, as many refusals are needed again.
    """
    limit, window = settings.INCIDENT_PAUSE_LIMIT, timedelta(minutes=settings.INCIDENT_PAUSE_MINUTES)
    if not limit:
        return 0
    much = Incident.objects.filter(
        closed_at=None, cause__in=PAUSING, window_count__gte=limit, window_began_at__gt=now - 2 * window
    ).exclude(site="")
    return sum(_pause(each, now) for each in much.select_related("source_ip").order_by("pk"))


def _pause(incident: Incident, now: datetime) -> bool:
    reason = (
        f"Paused by Relay: {incident.window_count:,} attempts met incident {incident.pk} "
        f"({incident.get_cause_display()}) within {settings.INCIDENT_PAUSE_MINUTES} minutes."
    )
    with transaction.atomic():
        paused = sites.pause_site(
            incident.site,
            source_ip=incident.source_ip,
            reason=reason,
            actor=None,
            actor_label=incidents.RELAY,
            now=now,
        )
        changes = {"paused_at": now} if paused else {}
        counted = incident.window_count
        Incident.objects.filter(pk=incident.pk).update(window_count=F("window_count") - counted, **changes)
    if paused:
        PAUSED.inc()
        log.warning(
            "incident.paused",
            incident=incident.pk,
            site=incident.site,
            source_ip=incident.source_ip_id,
            attempts=counted,
        )
    return paused
