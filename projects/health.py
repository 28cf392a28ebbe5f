"""What the projects floor has to say about its health."""

from datetime import UTC, datetime

from django.db.models import Min

from projects.models import EventOutbox
from projects.setup import instance_domain
from relay_project.db.ids import id_time
from relay_project.health import HealthResult, check, failed, passed

OLDEST_EVENT_SECONDS = 60  # a sequencer looks at least once a second


@check("event_log", roles=("webhooks", "housekeeping"))
def event_log() -> HealthResult:
    """Events get their position soon after their commit, or nobody is told of them."""
    oldest = EventOutbox.objects.aggregate(oldest=Min("event_id"))["oldest"]
    age = (datetime.now(UTC) - id_time(oldest)).total_seconds() if oldest else 0.0
    if age > OLDEST_EVENT_SECONDS:
        return failed(f"An event has waited for its position for {age:.0f} s: is run_webhooks up?", oldest_seconds=age)
    return passed("events are in order", oldest_seconds=max(age, 0.0))


@check("instance_domain", roles=("senders", "housekeeping"))
def instance() -> HealthResult:
    """The domain that every mail is signed with exists and may sign."""
    domain = instance_domain()
    if not domain.dkim_keys.filter(is_current=True).exists():
        return failed(f"{domain.domain} has no DKIM key; run_housekeeping makes it.")
    return passed(domain.domain)
