import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import relay_project.db.fields
from django.db import migrations, models


# A queue table as sending_waiting is: rows pass through.
WAITING_STORAGE = """
ALTER TABLE webhooks_webhookwaiting SET (
  fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
  vacuum_index_cleanup = on, autovacuum_vacuum_insert_threshold = -1);
"""
BY_HAND = "UPDATE webhooks_webhook SET disabled_reason = 'by hand' WHERE NOT is_enabled"
# Webhooks are told of what happens from now on, and not of all that the log still has.
BEGIN_NOW = """
INSERT INTO sending_readerposition (name, position, moved_at)
SELECT 'webhooks', max(position), now() FROM projects_feedposition HAVING max(position) IS NOT NULL
ON CONFLICT (name) DO NOTHING
"""


class Migration(migrations.Migration):
    # Safe beside the version before: it writes none of the new columns, which have defaults in the database, and
    # delivers nothing.

    dependencies = [
        ('projects', '0012_feed_project'),
        ('sending', '0011_statistics_and_search'),
        ('webhooks', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookLane',
            fields=[
                ('webhook_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('holder', models.UUIDField()),
                ('leased_until', models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name='webhook',
            name='disabled_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='disabled_reason',
            field=models.CharField(blank=True, choices=[('', 'Enabled'), ('by hand', 'By hand'), ('failing', 'Nothing worked for days'), ('gone', 'It answered 410 Gone')], db_default='', default='', max_length=12),
        ),
        migrations.AddField(
            model_name='webhook',
            name='domains',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=253), blank=True, db_default=[], default=list, size=None),
        ),
        migrations.AddField(
            model_name='webhook',
            name='failing_since',
            field=models.DateTimeField(editable=False, help_text='The first failure since it last worked.', null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='headers',
            field=relay_project.db.fields.EncryptedTextField(editable=False, help_text='JSON, name → value; sent with each call.', null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='previous_secret',
            field=relay_project.db.fields.EncryptedTextField(editable=False, help_text='Signs as well, until its time is over.', null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='previous_secret_until',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='webhook',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), blank=True, db_default=[], default=list, size=None),
        ),
        migrations.AddField(
            model_name='webhookdelivery',
            name='kind',
            field=models.CharField(choices=[('event', 'Event'), ('test', 'Test'), ('replay', 'Replay')], db_default='event', default='event', max_length=8),
        ),
        migrations.AddField(
            model_name='webhookdelivery',
            name='next_try_at',
            field=models.DateTimeField(blank=True, help_text='Null when there is none.', null=True),
        ),
        migrations.AddField(
            model_name='webhookdelivery',
            name='tries',
            field=models.JSONField(db_default=[], default=list, help_text='Each one: at (Unix seconds), code, ms, text.'),
        ),
        migrations.CreateModel(
            name='WebhookWaiting',
            fields=[
                ('delivery_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('webhook_id', models.BigIntegerField()),
                ('subject_id', models.BigIntegerField(help_text='First tries about one subject follow each other.')),
                ('kind', models.CharField(choices=[('event', 'Event'), ('test', 'Test'), ('replay', 'Replay')], max_length=8)),
                ('due_at', models.DateTimeField()),
                ('try_count', models.SmallIntegerField(default=0)),
            ],
            options={
                'verbose_name_plural': 'waiting webhook deliveries',
                'indexes': [models.Index(fields=['webhook_id', 'due_at', 'delivery_id'], name='webhook_waiting_due')],
            },
        ),
        migrations.CreateModel(
            name='WebhookReplay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('begins_id', models.BigIntegerField(help_text='Ids from here on')),
                ('ends_id', models.BigIntegerField(help_text='and below this.')),
                ('only_failed', models.BooleanField(default=False)),
                ('next_id', models.BigIntegerField(help_text='How far it has come.')),
                ('made', models.IntegerField(default=0, help_text='Deliveries that it made so far.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('webhook', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='replays', to='webhooks.webhook')),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('finished_at', None)), fields=['id'], name='webhook_replay_open')],
            },
        ),
        migrations.RunSQL(WAITING_STORAGE, migrations.RunSQL.noop),
        migrations.RunSQL(BY_HAND, migrations.RunSQL.noop),
        migrations.RunSQL(BEGIN_NOW, migrations.RunSQL.noop),
    ]
