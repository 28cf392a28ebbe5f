"""What threads with a connection of their own do when the database is away: say so once, and open it anew."""

import structlog
from django.db import connection

from relay_project.mail.text import clean

log = structlog.get_logger(__name__)


def note_trouble(who: str, error: Exception, **more: object) -> None:
    """Log it as `<who>.database_trouble`, and let go of this thread's connection."""
    log.warning(f"{who}.database_trouble", error=clean(str(error), 300).strip(), **more)
    connection.close()
