"""What mail is searched by: a narrow row per send with one index, written behind accept and not by it.

Lower-cased copies; what a search finds here is checked against the sends and recipients themselves. Partitioned by day.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class SearchText(models.Model):
    """One send's. That it is there also says that the send was counted (sending.statistics.newcomers)."""

    send_id = models.BigIntegerField(primary_key=True)
    keys = ArrayField(models.IntegerField(), help_text="search_key() of the project, and of each address as a whole.")
    from_text = models.TextField()
    to_text = models.TextField(help_text="Each recipient's address on a line, with a line break before and behind.")
    subject_text = models.TextField()

    class Meta:
        indexes = (
            # One index for all: its lists are intersected, so a project's search reads no other's rows. The pending
            # list is larger than by default: fewer, larger merges cost half.
            GinIndex(
                fields=("keys", "from_text", "to_text", "subject_text"),
                opclasses=("array_ops", "gin_trgm_ops", "gin_trgm_ops", "gin_trgm_ops"),
                gin_pending_list_limit=8192,  # KiB
                name="search_text",
            ),
        )

    def __str__(self) -> str:
        return str(self.send_id)
