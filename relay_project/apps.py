"""The shared floor as a Django app: ids, the commands of the roof."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from relay_project import checks  # noqa: F401 — registers them


def _make_partitions(**_: object) -> None:
    from django.conf import settings  # noqa: PLC0415 — apps.py is imported before settings are complete

    from relay_project.db.partitions import make_partitions  # noqa: PLC0415 — needs the app registry

    make_partitions(settings.PARTITION_DAYS_AHEAD)


class RelayConfig(AppConfig):
    name = "relay_project"
    verbose_name = "Machinery"

    def ready(self) -> None:
        """After every migrate the coming days have their partitions."""
        post_migrate.connect(_make_partitions, sender=self)
