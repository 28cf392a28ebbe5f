from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Scheduled and retried mail that has waited for long is found by when it began to; the others by their ids.
    atomic = False  # the waiting table is busy: no lock on it while an index is built

    dependencies = [
        ('sending', '0016_routing'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='waiting',
            index=models.Index(condition=models.Q(('since__isnull', False)), fields=['since'], name='waiting_since'),
        ),
    ]
