"""Jobs of the accounts floor: three lines each, the work is in the rules."""

from django.core.management import call_command
from django.utils import timezone

from accounts.sign_in import sweep_links
from relay_project import jobs


@jobs.every("47 * * * *", "accounts.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: sign-in links and sessions that have run out."""
    sweep_links(timezone.now())
    call_command("clearsessions", verbosity=0)
