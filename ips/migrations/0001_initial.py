import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('queues', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Server',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hostname', models.CharField(max_length=253, unique=True)),
                ('last_ping_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='Sender',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('pid', models.IntegerField()),
                ('started_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('heartbeat_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('server', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='senders', to='ips.server')),
            ],
            options={
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='SourceIp',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('address', models.GenericIPAddressField(help_text='As receivers see it.', unique=True, unpack_ipv4=True)),
                ('bind_address', models.GenericIPAddressField(blank=True, help_text='Local address, where it differs (behind NAT).', null=True)),
                ('is_enabled', models.BooleanField(default=True)),
                ('gone_at', models.DateTimeField(blank=True, help_text='Not found on its server since.', null=True)),
                ('served_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('queue', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='source_ips', to='queues.queue')),
                ('served_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='source_ips', to='ips.sender')),
                ('server', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='source_ips', to='ips.server')),
            ],
            options={
                'verbose_name': 'source IP',
                'ordering': ('id',),
            },
        ),
        migrations.CreateModel(
            name='HeldSite',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('site', models.CharField(max_length=253)),
                ('reason', models.CharField(max_length=512)),
                ('next_slot', models.DateTimeField()),
                ('queue', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='held_sites', to='queues.queue')),
                ('source_ip', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='held_sites', to='ips.sourceip')),
            ],
            options={
                'indexes': [models.Index(fields=['next_slot'], name='held_site_next_slot')],
                'constraints': [models.UniqueConstraint(fields=('queue', 'source_ip', 'site'), name='held_site', nulls_distinct=False)],
            },
        ),
    ]
