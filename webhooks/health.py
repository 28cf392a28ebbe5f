"""What webhooks have to say about their health."""

from datetime import UTC, datetime

from relay_project.health import HealthResult, check, failed, passed
from webhooks.fan_out import lag_seconds

MAX_LAG_SECONDS = 60  # it looks once a second


@check("webhooks", roles=("webhooks", "housekeeping"))
def webhooks() -> HealthResult:
    """Events lead to deliveries soon after they have their position. A receiver that is down is its owner's matter."""
    lag = lag_seconds(datetime.now(UTC))
    if lag > MAX_LAG_SECONDS:
        return failed(f"No deliveries were made for an event of {lag:.0f} s ago: is run_webhooks up?", lag_seconds=lag)
    return passed("webhooks are told", lag_seconds=lag)
