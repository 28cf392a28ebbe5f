"""Jobs of the sending floor: three lines each, the work is in the rules."""

from dataclasses import asdict

from django.utils import timezone
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from ips.limits import forget_lessons
from projects.life import suspensions_since
from relay_project import jobs
from relay_project.metrics import Gauge
from sending.backlog import orders, stopped, upkeep
from sending.backlog.delays import tell_of_delays
from sending.backlog.depth import Depth, read_depths
from sending.backlog.expire import Sweep
from sending.backlog.ledger import read_ledger
from sending.backlog.measure import measure
from sending.deliver import wakeups
from sending.deliver.shape_counts import forget_counts
from sending.statistics.rate_notices import tell_of_rates

QUEUE_SIZE = Gauge("email_queue_size", "Recipients that wait, by queue.", ["queue_name"])
OLDEST_DUE = Gauge("relay_queue_oldest_due_seconds", "How long the oldest due mail has stood.", ["queue_name"])
SUSPENDED = Gauge("relay_projects_suspended", "Projects whose mail staff have stopped.")
SILENT = Gauge("relay_ledger_silent", "Recipients that are not final and wait nowhere; must be 0.")
STRAY = Gauge("relay_ledger_stray", "Waiting rows of recipients that are final; must be 0.")


@app.task(name=jobs.DRAIN, retry=RetryStrategy(max_attempts=3))
async def drain() -> None:
    """Look for due mail now."""
    wakeups.wake_all()


ORDER_SECONDS = 8.0  # of one run: a process that is to stop waits ten


@app.task(name=jobs.OPERATIONS, queue=jobs.HOUSEKEEPING, retry=RetryStrategy(max_attempts=1))
def operations() -> None:
    """Carry out what staff ordered; what is left over wakes the next run."""
    if not orders.carry_on(ORDER_SECONDS):
        jobs.wake(jobs.OPERATIONS, jobs.HOUSEKEEPING)


@jobs.every("* * * * *", "sending.orders")
def find_orders(timestamp: int) -> None:
    """Once a minute: orders whose wake-up was lost."""
    orders.carry_on(ORDER_SECONDS)


STOPPED_SECONDS = 8.0  # of one run


@app.task(name=jobs.STOPPED, queue=jobs.HOUSEKEEPING, retry=RetryStrategy(max_attempts=1))
def settle_stopped() -> None:
    """A project was suspended or archived: its waiting mail is put in order."""
    stopped.unhang()
    stopped.cancel_archived(timezone.now(), STOPPED_SECONDS)


@jobs.every("* * * * *", "sending.stopped_projects")
def keep_stopped(timestamp: int) -> None:
    """Once a minute: what came back to the waiting mail of such projects meanwhile, and how many are suspended."""
    SUSPENDED.set(len(suspensions_since(timezone.now())))
    stopped.unhang()
    stopped.cancel_archived(timezone.now(), STOPPED_SECONDS)


EXPIRY_SECONDS = 8.0  # of one run
_expiry = Sweep()


@jobs.every("* * * * *", "sending.expiry")
def give_up_old(timestamp: int) -> None:
    """Once a minute: mail that has waited for too long."""
    _expiry.run(timezone.now(), EXPIRY_SECONDS)


@jobs.every("* * * * *", "sending.delays")
def tell_of_late(timestamp: int) -> None:
    """Once a minute: mail that has become late."""
    tell_of_delays(timezone.now(), EXPIRY_SECONDS)


@jobs.every("* * * * *", "sending.upkeep")
def keep_up(timestamp: int) -> None:
    """Once a minute: stickiness, held sites."""
    upkeep.unstick(timezone.now())
    upkeep.drop_free_held_sites(timezone.now())


@jobs.every("7 * * * *", "sending.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: what may be forgotten (what has an age is retention's), and rates that are too high."""
    upkeep.forget_senders(timezone.now())
    forget_counts(timezone.now())
    forget_lessons(timezone.now())
    tell_of_rates(timezone.now())


@jobs.every("* * * * * */15", "sending.depth")
def measure_depth(timestamp: int) -> None:
    """Four times a minute, or as often as is cheap: how much waits."""
    depths = measure("depths", lambda: [asdict(depth) for depth in read_depths(timezone.now())], timezone.now())
    for depth in (Depth(**values) for values in depths or ()):
        QUEUE_SIZE.labels(depth.queue_name).set(depth.due + depth.later + depth.in_flight + depth.held)
        OLDEST_DUE.labels(depth.queue_name).set(max(depth.oldest_due_seconds, 0))


@jobs.every("* * * * *", "sending.ledger")
def measure_ledger(timestamp: int) -> None:
    """Once a minute, or as often as is cheap: that nothing is silent."""
    found = measure("ledger", lambda: asdict(read_ledger()), timezone.now())
    if found is not None:
        SILENT.set(found["silent"])
        STRAY.set(found["stray"])
