import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations, models

from relay_project.db.partitions import CreatePartitionedModel, Day, existing_partitions, make_partition, partition_name

# What an exact search looks for: 32 bits of a digest, salted by the project. Whatever collides is told apart by the row.
SEARCH_KEY = """
CREATE FUNCTION search_key(project bigint, kind text, value text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT ('x' || left(md5(project || kind || value), 8))::bit(32)::int $$;
"""


def make_past_days(apps, schema_editor):
    """Sends of every day that is kept are to be found, not only of those to come."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'sending_send'::regclass ORDER BY 1"""
        )
        there = existing_partitions(cursor)
        for (name,) in cursor.fetchall():
            day = Day.of(models.DateField().to_python(f"{name[-8:-4]}-{name[-4:-2]}-{name[-2:]}"))
            if partition_name('sending_searchtext', day.day) not in there:
                make_partition(cursor, 'sending_searchtext', 'send_id', day)


COUNTERS = [
    ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
    ('project_id', models.BigIntegerField(help_text='0: the whole instance.')),
    ('dimension', models.CharField(choices=[('project', 'Project'), ('domain', 'Domain'), ('queue', 'Queue'), ('ip', 'Ip'), ('provider', 'Provider'), ('tag', 'Tag'), ('all', 'All')], max_length=8)),
    ('key', models.CharField(blank=True, max_length=253)),
    *((name, models.BigIntegerField(default=0)) for name in (
        'total', 'deferred', 'accepted', 'bounced', 'complained', 'failed', 'suppressed', 'cancelled', 'deferrals')),
    ('latency', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
]


class Migration(migrations.Migration):

    dependencies = [
        ('relay_project', '0001_time_ordered_ids'),
        ('sending', '0010_suppression_search'),
    ]

    operations = [
        TrigramExtension(),
        migrations.RunSQL(SEARCH_KEY, 'DROP FUNCTION search_key'),
        migrations.CreateModel(
            name='ReaderPosition',
            fields=[
                ('name', models.CharField(max_length=32, primary_key=True, serialize=False)),
                ('position', models.BigIntegerField(default=0)),
                ('moved_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='DayCount',
            fields=[*COUNTERS, ('day', models.DateField())],
            options={
                'indexes': [models.Index(fields=['day'], name='day_count_day')],
                'constraints': [models.UniqueConstraint(fields=('project_id', 'dimension', 'day', 'key'), name='day_count_key')],
            },
        ),
        migrations.CreateModel(
            name='HourCount',
            fields=[*((name, field.clone()) for name, field in COUNTERS), ('hour', models.DateTimeField())],
            options={
                'indexes': [models.Index(fields=['hour'], name='hour_count_hour')],
                'constraints': [models.UniqueConstraint(fields=('project_id', 'dimension', 'hour', 'key'), name='hour_count_key')],
            },
        ),
        # Rows are added to again and again: the new version stays on its page.
        migrations.RunSQL(
            "ALTER TABLE sending_hourcount SET (fillfactor = 70); ALTER TABLE sending_daycount SET (fillfactor = 70);",
            migrations.RunSQL.noop,
        ),
        CreatePartitionedModel(
            name='SearchText',
            fields=[
                ('send_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('keys', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), help_text='search_key() of the project, and of each address as a whole.', size=None)),
                ('from_text', models.TextField()),
                ('to_text', models.TextField(help_text="Each recipient's address on a line, with a line break before and behind.")),
                ('subject_text', models.TextField()),
            ],
            options={
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['keys', 'from_text', 'to_text', 'subject_text'], gin_pending_list_limit=8192, name='search_text', opclasses=('array_ops', 'gin_trgm_ops', 'gin_trgm_ops', 'gin_trgm_ops'))],
            },
        ),
        migrations.RunPython(make_past_days, migrations.RunPython.noop),
    ]
