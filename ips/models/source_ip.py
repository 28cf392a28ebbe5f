"""The addresses that mail leaves from."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from ips.models.server import Sender, Server
from queues.models import Queue


class SourceIp(models.Model):
    """An address of ours. It is never deleted: one that disappears is marked gone and keeps its id, and with it its
    EHLO name and its history (lesson C13)."""

    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="source_ips")
    queue = models.ForeignKey(Queue, on_delete=models.SET_NULL, null=True, blank=True, related_name="source_ips")
    address = models.GenericIPAddressField(unique=True, unpack_ipv4=True, help_text="As receivers see it.")
    bind_address = models.GenericIPAddressField(
        null=True, blank=True, help_text="Local address, where it differs (behind NAT)."
    )
    is_enabled = models.BooleanField(default=True)
    gone_at = models.DateTimeField(null=True, blank=True, help_text="Not found on its server since.")
    contested_by = models.ForeignKey(
        Server, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", help_text="Names this address, too."
    )
    contested_at = models.DateTimeField(null=True, blank=True, help_text="When it last did.")
    warmup_started_on = models.DateField(
        null=True, blank=True, help_text="First day (UTC) of its warm-up; ceilings by WARMUP_PLAN."
    )
    served_by = models.ForeignKey(Sender, on_delete=models.SET_NULL, null=True, blank=True, related_name="source_ips")
    served_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ("id",)
        verbose_name = "source IP"

    def __str__(self) -> str:
        return self.address

    @property
    def helo_name(self) -> str:
        """The name in EHLO and in the PTR record: stable as long as the row is (lesson C13)."""
        return f"smtp{self.pk}.{settings.INSTANCE_DOMAIN}"

    @property
    def local_address(self) -> str:
        """What to bind to."""
        return self.bind_address or self.address
