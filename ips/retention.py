"""How long closed incidents are kept: as long as the audit log that tells who closed them."""

from datetime import datetime, timedelta

from django.conf import settings

from relay_project.retention import delete_in_steps, sweep

_DELETE = """
DELETE FROM ips_incident WHERE id = ANY(ARRAY(
  SELECT id FROM ips_incident WHERE closed_at < %(before)s ORDER BY id LIMIT %(rows)s))
"""


@sweep("incidents", lambda: settings.RETENTION_AUDIT_DAYS)
def delete_closed_incidents(now: datetime) -> int:
    """Open ones stay, however old."""
    return delete_in_steps(_DELETE, {"before": now - timedelta(days=settings.RETENTION_AUDIT_DAYS)})
