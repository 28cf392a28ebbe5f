import django.contrib.postgres.indexes
import django.db.models.functions.comparison
from django.contrib.postgres.operations import AddIndexConcurrently, BtreeGinExtension, TrigramExtension
from django.db import migrations, models


class Migration(migrations.Migration):
    # Senders that settle meanwhile must not wait for an index over a long list.

    atomic = False

    dependencies = [
        ('sending', '0009_suppression_scopes'),
    ]

    operations = [
        TrigramExtension(),
        BtreeGinExtension(),
        AddIndexConcurrently(
            model_name='suppression',
            index=models.Index(django.db.models.functions.comparison.Coalesce('project', 'list_project'), models.OrderBy(models.F('id'), descending=True), name='suppression_owner'),
        ),
        AddIndexConcurrently(
            model_name='suppression',
            index=django.contrib.postgres.indexes.GinIndex(django.db.models.functions.comparison.Coalesce('project', 'list_project'), django.contrib.postgres.indexes.OpClass(models.F('email'), name='gin_trgm_ops'), name='suppression_search'),
        ),
    ]
