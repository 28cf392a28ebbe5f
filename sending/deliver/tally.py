"""Counting attempts as they end, and a line about each for whoever debugs.

Counts are kept here and published together once a second: in files that processes share (relay_project.metrics) each
step of a counter costs as much as a step of the conversation.
"""

import logging
from collections import Counter as Counts
from collections import defaultdict

import structlog

from relay_project.metrics import SECONDS, Counter, Histogram, observe_many
from sending.deliver.outcome import AttemptOutcome, attempt_status, status_of

log = structlog.get_logger()

ATTEMPTS = Counter("email_send_attempts_total", "Attempts by how they ended.", ["ip", "status"])
DURATION = Histogram("email_delivery_duration_seconds", "From claim to outcome.", ["ip"], buckets=SECONDS)
TLS_USED = Counter(
    "relay_tls_transactions_total",
    "Transactions by what decided about TLS and the version used.",
    ["policy", "version"],
)

_attempts: Counts[tuple[str, str]] = Counts()
_durations: defaultdict[str, list[float]] = defaultdict(list)
_transactions: Counts[tuple[str, str]] = Counts()
_is_listening = logging.getLogger(__name__).isEnabledFor


def count_attempt(outcome: AttemptOutcome, address: str, seconds: float) -> None:
    """Count one attempt from a source IP's address; `seconds` since its claim."""
    status = attempt_status([status_of(recipient, next_try_exists=True) for recipient in outcome.recipients])
    _attempts[address, status.value] += 1
    _durations[address].append(seconds)
    if _is_listening(logging.DEBUG):  # 10 µs a mail otherwise, for a line that nobody reads
        log.debug("attempt.ended", attempt=outcome.job.attempt_id, send=outcome.job.send_id, status=status.value)


def count_transaction(policy: str, version: str) -> None:
    """Count one transaction: what decided about TLS, and its version, `clear` or `failed`."""
    _transactions[policy, version] += 1


def publish() -> None:
    """Add to the metrics what was counted since; by the event loop, which also counts."""
    for metric, counts in ((ATTEMPTS, _attempts), (TLS_USED, _transactions)):
        for labels, count in counts.items():
            metric.labels(*labels).inc(count)
        counts.clear()
    for address, seconds in _durations.items():
        observe_many(DURATION.labels(address), seconds)
    _durations.clear()
