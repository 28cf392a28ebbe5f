import django.db.models.expressions
import django.db.models.lookups
from django.db import migrations, models

from relay_project.db.indexes import AddPartitionedIndex


class Migration(migrations.Migration):

    atomic = False  # each partition's index is built CONCURRENTLY

    dependencies = [
        ('relay_project', '0001_time_ordered_ids'),
        ('sending', '0004_retention'),
    ]

    operations = [
        AddPartitionedIndex(
            model_name='send',
            index=models.Index(condition=models.Q(django.db.models.lookups.GreaterThan(django.db.models.expressions.CombinedExpression(models.Func('message_date', function='id_floor', output_field=models.BigIntegerField()), '-', models.F('id')), 14745600000)), fields=['message_date'], name='send_scheduled'),
        ),
    ]
