"""Jobs of the sending floor: three lines each, the work is in the rules."""

from django.utils import timezone
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from relay_project import jobs
from relay_project.metrics import Gauge
from sending import sandbox_inbox
from sending.backlog import upkeep
from sending.backlog.depth import read_depths
from sending.backlog.ledger import read_ledger
from sending.deliver import wakeups

QUEUE_SIZE = Gauge("email_queue_size", "Recipients that wait, by queue.", ["queue_name"])
OLDEST_DUE = Gauge("relay_queue_oldest_due_seconds", "How long the oldest due mail has stood.", ["queue_name"])
SILENT = Gauge("relay_ledger_silent", "Recipients that are not final and wait nowhere; must be 0.")
STRAY = Gauge("relay_ledger_stray", "Waiting rows of recipients that are final; must be 0.")


@app.task(name=jobs.DRAIN, retry=RetryStrategy(max_attempts=3))
async def drain() -> None:
    """Look for due mail now."""
    wakeups.wake_all()


@jobs.every("* * * * *", "sending.upkeep")
def keep_up(timestamp: int) -> None:
    """Once a minute: stickiness, held sites."""
    upkeep.unstick(timezone.now())
    upkeep.drop_free_held_sites(timezone.now())


@jobs.every("7 * * * *", "sending.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: what may be forgotten."""
    upkeep.forget_idempotency(timezone.now())
    upkeep.forget_senders(timezone.now())
    sandbox_inbox.trim()


@jobs.every("* * * * * */15", "sending.depth")
def measure_depth(timestamp: int) -> None:
    """Four times a minute: how much waits."""
    for depth in read_depths(timezone.now()):
        QUEUE_SIZE.labels(depth.queue_name).set(depth.due + depth.later + depth.in_flight + depth.held)
        OLDEST_DUE.labels(depth.queue_name).set(max(depth.oldest_due_seconds, 0))


@jobs.every("* * * * *", "sending.ledger")
def measure_ledger(timestamp: int) -> None:
    """Once a minute: that nothing is silent."""
    ledger = read_ledger()
    SILENT.set(ledger.silent)
    STRAY.set(ledger.stray)
