import django.contrib.postgres.fields
from django.db import connection, migrations, models

from relay_project.db.dropping import State, list_partitions
from relay_project.db.partitions import CreatePartitionedModel, make_partition


def make_past_days(apps, schema_editor):
    """Feedback lies in its recipient's day, and what was sent before this migration has some to come."""
    with connection.cursor() as cursor:
        for day in list_partitions(cursor):
            if day.table == 'sending_recipient' and day.state is State.ATTACHED:
                make_partition(cursor, 'sending_feedback', 'recipient_id', day.day)


class Migration(migrations.Migration):
    # Safe beside the version before, which reads and writes none of it.

    dependencies = [
        ('sending', '0014_variables'),
    ]

    operations = [
        CreatePartitionedModel(
            name='Feedback',
            fields=[
                ('pk', models.CompositePrimaryKey('type', 'recipient_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('type', models.CharField(choices=[('bounce', 'Bounce'), ('complaint', 'Complaint')], max_length=12)),
                ('recipient_id', models.BigIntegerField()),
                ('id', models.BigIntegerField(help_text='The one that the API shows; it says when it came.')),
                ('send_id', models.BigIntegerField()),
                ('project_id', models.BigIntegerField()),
                ('attempt_id', models.BigIntegerField(blank=True, null=True)),
                ('mail_id', models.BigIntegerField(help_text='The inbound mail that brought it.')),
                ('is_proven', models.BooleanField(help_text='By a signed return path; what is not may not suppress.')),
                ('bounce_class', models.CharField(blank=True, max_length=16)),
                ('status', models.CharField(blank=True, help_text='Enhanced status of a bounce, kind of a complaint.', max_length=12)),
                ('code', models.SmallIntegerField(default=0)),
                ('reason', models.CharField(blank=True, max_length=2000)),
            ],
            options={
                'indexes': [models.Index(fields=['send_id'], name='feedback_send')],
            },
        ),
        CreatePartitionedModel(
            name='InboundMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('peer', models.CharField(max_length=64)),
                ('helo_name', models.CharField(blank=True, max_length=255)),
                ('tls', models.CharField(blank=True, help_text='Version; empty: clear text.', max_length=16)),
                ('mail_from', models.CharField(blank=True, help_text='Empty: the null sender, as reports should have.', max_length=512)),
                ('recipients', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=512), size=None)),
                ('octets', models.BinaryField()),
                ('size_bytes', models.IntegerField()),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('applied', 'Applied'), ('noted', 'Noted'), ('handed on', 'Handed On'), ('unmatched', 'Unmatched'), ('forged', 'Forged'), ('trouble', 'Trouble')], default='waiting', max_length=12)),
                ('kind', models.CharField(blank=True, choices=[('bounce', 'Bounce'), ('complaint', 'Complaint'), ('tls-report', 'Tls Report'), ('dmarc-report', 'Dmarc Report'), ('auto-reply', 'Auto Reply'), ('none', 'None')], help_text='Empty until it was read.', max_length=16)),
                ('trouble', models.CharField(blank=True, max_length=500)),
                ('correlation', models.CharField(blank=True, choices=[('token', 'Token'), ('envelope-id', 'Envelope Id'), ('message-id', 'Message Id'), ('headers', 'Headers')], max_length=12)),
                ('project_id', models.BigIntegerField(blank=True, null=True)),
                ('send_id', models.BigIntegerField(blank=True, null=True)),
                ('attempt_id', models.BigIntegerField(blank=True, null=True)),
                ('findings', models.JSONField(default=list, help_text='What it says of each recipient, and what followed.')),
                ('read_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'inbound mail',
                'ordering': ('-id',),
                'indexes': [models.Index(condition=models.Q(('send_id__isnull', False)), fields=['send_id'], name='inbound_send'), models.Index(condition=models.Q(('state__in', ('unmatched', 'forged', 'trouble'))), fields=['id'], name='inbound_trouble')],
            },
        ),
        migrations.CreateModel(
            name='UnreadMail',
            fields=[
                ('mail_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('due_at', models.DateTimeField(help_text='When to read it; of one that is being read, the end of its lease.')),
                ('tries', models.SmallIntegerField(default=0, help_text='How often a reader took it.')),
                ('size_bytes', models.IntegerField()),
            ],
            options={
                'verbose_name': 'unread mail',
                'indexes': [models.Index(fields=['due_at'], name='unread_due')],
            },
        ),
        migrations.RunPython(make_past_days, migrations.RunPython.noop),
    ]
