"""Receiving sites that may not be tried now."""

from django.db import models

from ips.models.source_ip import SourceIp
from queues.models import Queue


class HeldSite(models.Model):
    """Why a queue's mail for one site waits, and until when. Rows of the waiting table hang on it and cost no claims."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="held_sites")
    source_ip = models.ForeignKey(SourceIp, on_delete=models.CASCADE, null=True, blank=True, related_name="held_sites")
    site = models.CharField(max_length=253)
    reason = models.CharField(max_length=512)
    next_slot = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("queue", "source_ip", "site"), name="held_site", nulls_distinct=False),
        )
        indexes = (models.Index(fields=("next_slot",), name="held_site_next_slot"),)

    def __str__(self) -> str:
        return f"{self.site} until {self.next_slot:%H:%M:%S}"
