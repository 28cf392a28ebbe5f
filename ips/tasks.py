"""Jobs of the ips floor: three lines each, the work is in the rules."""

from django.utils import timezone

from ips import incident_figures, incident_upkeep, refresh_policies, tls_policies
from relay_project import jobs


@jobs.every("23 * * * *", "ips.tls_policies")
def refresh_tls_policies(timestamp: int) -> None:
    """Once an hour: MTA-STS policies that are a day old, and those nobody asks for any more."""
    refresh_policies.refresh(timezone.now())
    tls_policies.forget(timezone.now())


@jobs.every("* * * * *", "ips.incidents")
def count_incidents(timestamp: int) -> None:
    """Once a minute: what ended, what goes too far, and how many are open."""
    now = timezone.now()
    incident_upkeep.close_stopped(now)
    incident_upkeep.pause_pairs(now)
    incident_figures.show(incident_figures.read_open(now))
