"""How long it is kept what webhooks were told. What is still untold after so long is told no more."""

from django.conf import settings

from relay_project.retention import Family, keep

keep(
    Family(
        "webhook deliveries",
        ("webhooks_webhookdelivery",),
        lambda: settings.RETENTION_DELIVERIES_DAYS,
        lambda cursor, day, now: "",
    )
)
