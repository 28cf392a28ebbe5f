"""Jobs of the projects floor: three lines each, the work is in the rules."""

from django.utils import timezone

from projects import dkim_rotation, domain_status, return_path
from projects.invitations import sweep_invitations
from projects.key_rotation import sweep_former
from projects.notices import forget_notices, send_notices
from relay_project import jobs


@jobs.every("* * * * *", "projects.recheck_domains")
def recheck_domains(timestamp: int) -> None:
    """Once a minute: the domains, new keys and return paths whose check is due."""
    domain_status.recheck_due(timezone.now())
    dkim_rotation.check_waiting(timezone.now())
    return_path.check_due(timezone.now())


@jobs.every("23 * * * *", "projects.delete_abandoned_domains")
def delete_abandoned_domains(timestamp: int) -> None:
    """Once an hour: domains that were never verified."""
    domain_status.delete_abandoned(timezone.now())


@jobs.every("29 * * * *", "projects.hourly")
def hourly(timestamp: int) -> None:
    """Once an hour: secrets of rotated keys, invitations and notices whose time is over."""
    sweep_former(timezone.now())
    sweep_invitations(timezone.now())
    forget_notices(timezone.now())


@jobs.every("* * * * *", "projects.notices")
def notify_people(timestamp: int) -> None:
    """Once a minute: notices that wait."""
    send_notices(timezone.now())


@jobs.every("33 * * * *", "projects.retire_dkim_keys")
def retire_dkim_keys(timestamp: int) -> None:
    """Once an hour: keys whose overlap is over."""
    dkim_rotation.retire_due(timezone.now())
