import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ips', '0003_tls_policies'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('site', models.CharField(blank=True, help_text='Provider or MX set, as in attempts.', max_length=253)),
                ('cause', models.CharField(choices=[('ip-reputation', 'IP reputation'), ('authentication', 'Authentication'), ('dns', 'DNS names'), ('rate', 'Rate'), ('protocol', 'Protocol')], max_length=16)),
                ('rule', models.CharField(help_text='Row of bounce_rules.toml that decided last.', max_length=64)),
                ('attempt_count', models.BigIntegerField(help_text='Attempts that met it.')),
                ('opened_at', models.DateTimeField()),
                ('last_seen_at', models.DateTimeField()),
                ('last_reply', models.CharField(blank=True, help_text='What the site said last.', max_length=2000)),
                ('last_project_id', models.BigIntegerField()),
                ('last_send_id', models.BigIntegerField()),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('note', models.CharField(blank=True, max_length=255)),
                ('acknowledged_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('source_ip', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='incidents', to='ips.sourceip')),
            ],
            options={
                'ordering': ('-last_seen_at',),
                'indexes': [models.Index(fields=['-last_seen_at'], name='incident_last_seen')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('source_ip', 'site', 'cause'), name='incident_open')],
            },
        ),
    ]
