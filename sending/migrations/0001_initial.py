import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from relay_project.db.partitions import CreatePartitionedModel


# A queue table: rows pass through, so vacuum by number of dead rows and not by share, without a cost delay; fillfactor
# keeps the new version of a claimed row on its page (measured: 1.5 × the throughput, 2.5 × smaller).
WAITING_STORAGE = """
ALTER TABLE sending_waiting SET (
  fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
  vacuum_index_cleanup = on, autovacuum_vacuum_insert_threshold = -1);
ALTER TABLE projects_eventoutbox SET (
  fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0, vacuum_index_cleanup = on);
"""


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('relay_project', '0001_time_ordered_ids'),
        ('projects', '0001_initial'),
        ('queues', '0001_initial'),
    ]

    operations = [
        CreatePartitionedModel(
            name='Content',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('body_html', models.TextField(null=True)),
                ('body_text', models.TextField(null=True)),
                ('headers', models.JSONField(default=list, help_text='[[name, value], …] in the order given.')),
                ('attachments', models.JSONField(default=list, help_text='[{name, content_type, content_id}, …]')),
                ('attachment_bodies', django.contrib.postgres.fields.ArrayField(base_field=models.BinaryField(), default=list, size=None)),
            ],
            options={
                'verbose_name_plural': 'contents',
            },
        ),
        CreatePartitionedModel(
            name='Send',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('uuid', models.UUIDField(help_text='UUIDv7 that carries the id; no index, see relay_project.db.ids.')),
                ('from_address', models.CharField(max_length=254)),
                ('from_name', models.CharField(max_length=998, null=True)),
                ('subject', models.TextField(null=True)),
                ('size_bytes', models.IntegerField(help_text='Exact length before signing.')),
                ('message_date', models.DateTimeField(help_text='Date header and DKIM t=: the later of accept and send_after.')),
                ('writer_version', models.SmallIntegerField(help_text='Which writer composes it (relay_project.mail.mime).')),
                ('mailer', models.CharField(help_text='X-Mailer as it stood at accept.', max_length=128)),
                ('instance_domain', models.CharField(help_text='Signs second; names the return path.', max_length=253)),
                ('content', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='sending.content')),
                ('domain', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='projects.domain')),
                ('project', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='projects.project')),
                ('queue', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='queues.queue')),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        CreatePartitionedModel(
            name='Attempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('send_id', models.BigIntegerField()),
                ('project_id', models.BigIntegerField()),
                ('queue_id', models.BigIntegerField()),
                ('source_ip_id', models.BigIntegerField(blank=True, null=True)),
                ('status', models.CharField(choices=[('accepted', 'Accepted'), ('deferred', 'Deferred'), ('bounced', 'Bounced'), ('partial', 'Partial'), ('failed', 'Failed')], max_length=10)),
                ('try_count', models.SmallIntegerField()),
                ('domain', models.CharField(max_length=253)),
                ('site', models.CharField(blank=True, max_length=253)),
                ('resolved_mx_hosts', models.JSONField(default=list)),
                ('responded_mx_host', models.CharField(blank=True, max_length=253, null=True)),
                ('smtp_conversations', models.JSONField(default=dict, help_text='host → conversation, as the API shows it.')),
                ('tls', models.JSONField(blank=True, help_text='version, cipher, verified; null: clear text.', null=True)),
                ('network_error', models.CharField(blank=True, max_length=2000)),
                ('is_lost', models.BooleanField(default=False, help_text='Its sender died or lost its lease; the outcome is unknown.')),
                ('duration_ms', models.IntegerField(default=0)),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['send_id', 'id'], name='attempt_send'), models.Index(fields=['project_id', 'id'], name='attempt_project')],
            },
        ),
        CreatePartitionedModel(
            name='AttemptRecipient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt_id', models.BigIntegerField()),
                ('send_id', models.BigIntegerField()),
                ('recipient_id', models.BigIntegerField()),
                ('recipient_status', models.CharField(choices=[('queued', 'Queued'), ('accepted', 'Accepted'), ('deferred', 'Deferred'), ('bounced', 'Bounced'), ('complained', 'Complained'), ('suppressed', 'Suppressed'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], max_length=12)),
                ('smtp_code', models.SmallIntegerField(default=0)),
                ('smtp_enhanced_code', models.CharField(blank=True, max_length=12, null=True)),
                ('smtp_message', models.CharField(blank=True, max_length=2000)),
                ('category', models.CharField(blank=True, max_length=16)),
                ('rule', models.CharField(blank=True, help_text='Row of bounce_rules.toml that decided.', max_length=64)),
                ('is_suppressed', models.BooleanField(default=False)),
            ],
            options={
                'ordering': ('id',),
                'indexes': [models.Index(fields=['attempt_id'], name='attempt_recipient_attempt'), models.Index(fields=['send_id'], name='attempt_recipient_send')],
            },
        ),
        migrations.CreateModel(
            name='IdempotencyRecord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(help_text='SHA-256 of the request body.', max_length=64)),
                ('status_code', models.SmallIntegerField()),
                ('answer', models.JSONField()),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'indexes': [models.Index(fields=['created_at'], name='idempotency_created')],
                'constraints': [models.UniqueConstraint(fields=('project_id', 'key'), name='idempotency_project_key')],
            },
        ),
        migrations.CreateModel(
            name='SandboxMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField(blank=True, null=True)),
                ('send_id', models.BigIntegerField(blank=True, null=True)),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('reverse_path', models.CharField(blank=True, max_length=320)),
                ('recipients', models.JSONField(default=list)),
                ('helo_name', models.CharField(blank=True, max_length=255)),
                ('peer', models.CharField(blank=True, max_length=64)),
                ('is_tls', models.BooleanField(default=False)),
                ('subject', models.CharField(blank=True, max_length=998)),
                ('from_header', models.CharField(blank=True, max_length=998)),
                ('data', models.BinaryField()),
                ('dkim_results', models.JSONField(default=list, help_text='[{domain, selector, valid, error}, …] by dkimpy.')),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['project_id', 'id'], name='sandbox_project')],
            },
        ),
        CreatePartitionedModel(
            name='Signature',
            fields=[
                ('send', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='+', serialize=False, to='sending.send')),
                ('header_lines', models.BinaryField(help_text='CRLF-terminated; they stand before the composed message.')),
            ],
        ),
        CreatePartitionedModel(
            name='Recipient',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('position', models.SmallIntegerField()),
                ('type', models.CharField(choices=[('to', 'To'), ('cc', 'Cc'), ('bcc', 'Bcc')], max_length=3)),
                ('address', models.CharField(max_length=254)),
                ('name', models.CharField(default='', max_length=998)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('accepted', 'Accepted'), ('deferred', 'Deferred'), ('bounced', 'Bounced'), ('complained', 'Complained'), ('suppressed', 'Suppressed'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], max_length=12)),
                ('try_count', models.SmallIntegerField(default=0)),
                ('send', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='sending.send')),
            ],
            options={
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='Suppression',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.CharField(help_text='Normalised: case folded, domain as A-label.', max_length=254)),
                ('reason', models.CharField(choices=[('bounce', 'Bounce'), ('complaint', 'Complaint')], max_length=12)),
                ('description', models.CharField(blank=True, max_length=512, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='suppressions', to='projects.project')),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='Waiting',
            fields=[
                ('recipient_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('send_id', models.BigIntegerField()),
                ('project_id', models.BigIntegerField()),
                ('queue_id', models.BigIntegerField()),
                ('lane', models.BigIntegerField(help_text="The queue's id, or minus the source IP's once it is sticky.")),
                ('priority', models.SmallIntegerField(default=0, help_text='Lower leaves first.')),
                ('domain', models.CharField(max_length=253)),
                ('size_bytes', models.IntegerField()),
                ('phase', models.SmallIntegerField(choices=[(0, 'Due'), (1, 'Later'), (2, 'Held')], default=0)),
                ('due_at', models.DateTimeField()),
                ('tries', models.SmallIntegerField(default=0, help_text='Attempts that were dialled, and lost ones.')),
                ('lost', models.SmallIntegerField(default=0, help_text='Leases that ran out.')),
                ('source_ip_id', models.BigIntegerField(blank=True, help_text='Sticky: retries stay on their IP (greylisting).', null=True)),
                ('attempt_id', models.BigIntegerField(blank=True, null=True)),
                ('sender_id', models.BigIntegerField(blank=True, null=True)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('held_site_id', models.BigIntegerField(blank=True, null=True)),
            ],
            options={
                'verbose_name_plural': 'waiting',
                'indexes': [models.Index(condition=models.Q(('phase', 0)), fields=['lane', 'priority', 'project_id', 'due_at', 'recipient_id'], name='waiting_due'), models.Index(condition=models.Q(('attempt_id__isnull', True), ('phase', 1)), fields=['due_at'], name='waiting_later'), models.Index(condition=models.Q(('attempt_id__isnull', False)), fields=['due_at'], name='waiting_in_flight'), models.Index(condition=models.Q(('phase', 2)), fields=['held_site_id', 'project_id', 'due_at'], name='waiting_held'), models.Index(fields=['send_id'], name='waiting_send')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('attempt_id__isnull', True), ('lease_until__isnull', True), ('sender_id__isnull', True)), models.Q(('attempt_id__isnull', False), ('lease_until__isnull', False), ('phase', 1), ('sender_id__isnull', False)), _connector='OR'), name='waiting_in_flight_has_lease'), models.CheckConstraint(condition=models.Q(models.Q(('held_site_id__isnull', False), ('phase', 2)), models.Q(models.Q(('phase', 2), _negated=True), ('held_site_id__isnull', True)), _connector='OR'), name='waiting_held_has_site')],
            },
        ),
        migrations.AddIndex(
            model_name='send',
            index=models.Index(fields=['project', 'id'], name='send_project'),
        ),
        migrations.AddIndex(
            model_name='recipient',
            index=models.Index(fields=['send'], name='recipient_send'),
        ),
        migrations.AddIndex(
            model_name='recipient',
            index=models.Index(fields=['project_id', 'status', 'id'], name='recipient_status'),
        ),
        migrations.AddIndex(
            model_name='recipient',
            index=models.Index(condition=models.Q(('status__in', ('queued', 'deferred'))), fields=['id'], name='recipient_not_final'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.UniqueConstraint(fields=('project', 'email'), name='suppression_project_email'),
        ),
        migrations.RunSQL(WAITING_STORAGE, migrations.RunSQL.noop),
    ]
