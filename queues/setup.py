"""The two default queues, named after what projects send; made at first start."""

from django.db import connection, transaction

from projects.models import SendType
from queues.models import Queue
from relay_project.db.locks import FIRST_START, advisory_lock


def ensure_queues() -> list[Queue]:
    """The default queues, made where they are missing; any number of processes may call it."""
    with connection.cursor() as cursor, advisory_lock(cursor, FIRST_START), transaction.atomic():
        return [
            Queue.objects.get_or_create(name=send_type.value, defaults={"is_default": True})[0]
            for send_type in SendType
        ]
