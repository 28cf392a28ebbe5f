"""Jobs of the sending floor: three lines each, the work is in the rules."""

from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

from relay_project import jobs
from sending.deliver import wakeups


@app.task(name=jobs.DRAIN, retry=RetryStrategy(max_attempts=3))
async def drain() -> None:
    """Look for due mail now."""
    wakeups.wake_all()
