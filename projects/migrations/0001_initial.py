import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import relay_project.db.fields
from django.conf import settings
from django.db import migrations, models

from relay_project.db.partitions import CreatePartitionedModel


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('relay_project', '0001_time_ordered_ids'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='EventOutbox',
            fields=[
                ('event_id', models.BigIntegerField(primary_key=True, serialize=False)),
            ],
            options={
                'verbose_name_plural': 'event outbox',
            },
        ),
        migrations.CreateModel(
            name='FeedPosition',
            fields=[
                ('position', models.BigAutoField(primary_key=True, serialize=False)),
                ('event_id', models.BigIntegerField()),
            ],
        ),
        CreatePartitionedModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('kind', models.CharField(max_length=48)),
                ('subject_kind', models.CharField(max_length=24)),
                ('subject_id', models.BigIntegerField()),
                ('version', models.SmallIntegerField(default=1)),
                ('payload', models.JSONField()),
            ],
            options={
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['project_id', 'id'], name='event_project'), models.Index(fields=['subject_id', 'id'], name='event_subject')],
            },
        ),
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('send_type', models.CharField(choices=[('transactional', 'Transactional'), ('distributional', 'Distributional')], max_length=16)),
                ('is_system', models.BooleanField(default=False, help_text="Owns the instance domain and sends Relay's own notices.")),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'ordering': ('id',),
                'constraints': [models.UniqueConstraint(condition=models.Q(('is_system', True)), fields=('is_system',), name='one_system_project')],
            },
        ),
        migrations.CreateModel(
            name='Domain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('domain', models.CharField(help_text='A-label form, lower case.', max_length=253)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('active', 'Active'), ('warning', 'Warning'), ('suspended', 'Suspended')], default='pending', max_length=16)),
                ('status_changed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('dkim_checked_at', models.DateTimeField(blank=True, null=True)),
                ('dkim_error_message', models.CharField(blank=True, max_length=512, null=True)),
                ('failed_checks', models.PositiveSmallIntegerField(default=0, help_text='Failed checks in a row; resolver trouble does not count.')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='domains', to='projects.project')),
            ],
            options={
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('key_hash', models.CharField(max_length=64, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=32), default=list, size=None)),
                ('allowed_ips', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=50), blank=True, default=list, size=None)),
                ('is_enabled', models.BooleanField(default=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('last_accessed_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='api_keys', to='projects.project')),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='DkimKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('selector', models.CharField(max_length=63)),
                ('private_key', relay_project.db.fields.EncryptedTextField(editable=False, help_text='PEM, encrypted at rest by the key ring.')),
                ('public_key', models.TextField(help_text='PEM.')),
                ('is_current', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('domain', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='dkim_keys', to='projects.domain')),
            ],
            options={
                'verbose_name': 'DKIM key',
                'constraints': [models.UniqueConstraint(fields=('domain', 'selector'), name='dkim_key_domain_selector'), models.UniqueConstraint(condition=models.Q(('is_current', True)), fields=('domain',), name='dkim_key_current')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=32), default=list, size=None)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='projects.project')),
            ],
            options={
                'ordering': ('id',),
                'constraints': [models.UniqueConstraint(fields=('project', 'user'), name='membership_project_user')],
            },
        ),
        migrations.AddIndex(
            model_name='domain',
            index=models.Index(fields=['domain'], name='domain_name'),
        ),
        migrations.AddConstraint(
            model_name='domain',
            constraint=models.UniqueConstraint(fields=('project', 'domain'), name='domain_project_domain'),
        ),
    ]
