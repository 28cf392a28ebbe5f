import django.contrib.postgres.fields
from django.db import migrations, models

from relay_project.db.partitions import CreatePartitionedModel


class Migration(migrations.Migration):

    dependencies = [
        ('sending', '0011_statistics_and_search'),
    ]

    operations = [
        CreatePartitionedModel(
            name='SendTag',
            fields=[
                ('pk', models.CompositePrimaryKey('project_id', 'tag', 'send_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('project_id', models.BigIntegerField()),
                ('tag', models.CharField(max_length=64)),
                ('send_id', models.BigIntegerField()),
            ],
        ),
        migrations.AlterField(
            model_name='waiting',
            name='lane',
            field=models.BigIntegerField(help_text="The queue's id, minus the source IP's once it is sticky, or 0 of a test."),
        ),
        migrations.AddField(
            model_name='content',
            name='raw',
            field=models.BinaryField(help_text="The customer's own MIME, in place of all other parts.", null=True),
        ),
        migrations.AddField(
            model_name='send',
            name='is_test',
            field=models.BooleanField(db_default=False, default=False, help_text='Made with a test key: never leaves.'),
        ),
        migrations.AddField(
            model_name='send',
            name='metadata',
            field=models.JSONField(help_text="The customer's own names and values; null: none.", null=True),
        ),
        migrations.AddField(
            model_name='send',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), help_text='Null: none. See SendTag.', null=True, size=None),
        ),
    ]
