import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from relay_project.db.partitions import CreatePartitionedModel


class Migration(migrations.Migration):
    # Safe beside the version before, which reads and writes none of it.

    dependencies = [
        ('projects', '0011_inbound_scopes'),
        ('sending', '0015_inbound'),
    ]

    operations = [
        CreatePartitionedModel(
            name='ReceivedMail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('mail_id', models.BigIntegerField(help_text="The InboundMail, whose days end with this row's or before.")),
                ('route_id', models.BigIntegerField()),
                ('recipients', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=512), size=None)),
                ('mail_from', models.CharField(blank=True, help_text='Empty: the null sender.', max_length=512)),
                ('from_address', models.CharField(blank=True, max_length=512)),
                ('subject', models.CharField(blank=True, max_length=998)),
                ('message_id', models.CharField(blank=True, max_length=998)),
                ('size_bytes', models.IntegerField()),
                ('attachment_count', models.IntegerField(default=0)),
                ('authentication', models.JSONField(default=dict, help_text='Empty until it was examined.')),
                ('hints', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), default=list, help_text='What spam often has.', size=None)),
                ('examined_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'received mail',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['project_id', '-id'], name='received_project'), models.Index(fields=['mail_id'], name='received_mail')],
            },
        ),
        migrations.CreateModel(
            name='ReceivingDomain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('domain', models.CharField(help_text='A-label form, lower case.', max_length=253, unique=True)),
                ('mx_checked_at', models.DateTimeField(blank=True, null=True)),
                ('mx_error_message', models.CharField(blank=True, help_text='Empty: its MX leads here.', max_length=512)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='receiving_domains', to='projects.project')),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='InboundRoute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('pattern', models.CharField(help_text='A local part in lower case; a * at its end stands for the rest.', max_length=65)),
                ('priority', models.IntegerField(default=0, help_text='The smaller comes first; of equals the older.')),
                ('action', models.CharField(choices=[('event', 'Event'), ('drop', 'Drop'), ('reject', 'Reject')], default='event', max_length=8)),
                ('description', models.CharField(blank=True, max_length=255)),
                ('is_enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='inbound_routes', to='projects.project')),
                ('domain', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='routes', to='sending.receivingdomain')),
            ],
            options={
                'ordering': ('priority', 'id'),
            },
        ),
        migrations.CreateModel(
            name='UnexaminedMail',
            fields=[
                ('received_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('due_at', models.DateTimeField(help_text='When to examine it; of one that is being examined, the end of its lease.')),
                ('tries', models.SmallIntegerField(default=0)),
            ],
            options={
                'verbose_name': 'unexamined mail',
                'indexes': [models.Index(fields=['due_at'], name='unexamined_due')],
            },
        ),
        migrations.AddIndex(
            model_name='receivingdomain',
            index=models.Index(fields=['project', '-id'], name='receiving_project'),
        ),
        migrations.AddIndex(
            model_name='inboundroute',
            index=models.Index(fields=['project'], name='route_project'),
        ),
        migrations.AddConstraint(
            model_name='inboundroute',
            constraint=models.UniqueConstraint(fields=('domain', 'pattern'), name='route_domain_pattern'),
        ),
    ]
