from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Held rows are taken by priority; the former version's way finds its rows by the new index as well.
    atomic = False  # the waiting table is busy: no lock on it while an index is built

    dependencies = [
        ('sending', '0002_queue_operations'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='waiting',
            index=models.Index(condition=models.Q(('phase', 2)), fields=['held_site_id', 'priority', 'project_id', 'due_at', 'recipient_id'], name='waiting_held_turn'),
        ),
        RemoveIndexConcurrently(
            model_name='waiting',
            name='waiting_held',
        ),
    ]
