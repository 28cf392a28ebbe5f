from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

PROJECT = models.BigIntegerField(help_text="Null where a version before wrote it.", null=True)


class Migration(migrations.Migration):
    # Safe beside the version before, which writes neither column; the sequencer of this one looks up what is null.

    atomic = False

    dependencies = [
        ('projects', '0011_inbound_scopes'),
    ]

    operations = [
        migrations.AddField(model_name='eventoutbox', name='project_id', field=PROJECT),
        migrations.AddField(model_name='feedposition', name='project_id', field=PROJECT),
        AddIndexConcurrently(
            model_name='feedposition', index=models.Index(fields=['project_id', 'position'], name='feed_project')
        ),
        AddIndexConcurrently(model_name='feedposition', index=models.Index(fields=['event_id'], name='feed_event')),
    ]
