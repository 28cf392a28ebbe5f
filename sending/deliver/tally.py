"""Counting attempts as they end, and a line about each for whoever debugs."""

import logging
from functools import lru_cache

import structlog

from relay_project.metrics import SECONDS, Counter, Histogram
from sending.deliver.outcome import AttemptOutcome, attempt_status, status_of

log = structlog.get_logger()

ATTEMPTS = Counter("email_send_attempts_total", "Attempts by how they ended.", ["ip", "status"])
DURATION = Histogram("email_delivery_duration_seconds", "From claim to outcome.", ["ip"], buckets=SECONDS)
CACHED_SERIES = 1024  # more than a sender's IPs have

# A look-up by labels costs more than the counting itself.
_attempts = lru_cache(CACHED_SERIES)(ATTEMPTS.labels)
_duration = lru_cache(CACHED_SERIES)(DURATION.labels)
_is_listening = logging.getLogger(__name__).isEnabledFor


def count_attempt(outcome: AttemptOutcome, address: str, seconds: float) -> None:
    """Count one attempt from a source IP's address; `seconds` since its claim."""
    status = attempt_status([status_of(recipient, next_try_exists=True) for recipient in outcome.recipients])
    _attempts(address, status.value).inc()
    _duration(address).observe(seconds)
    if _is_listening(logging.DEBUG):  # 10 µs a mail otherwise, for a line that nobody reads
        log.debug("attempt.ended", attempt=outcome.job.attempt_id, send=outcome.job.send_id, status=status.value)
