import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sending', '0005_send_scheduled'),
    ]

    operations = [
        migrations.CreateModel(
            name='SoftBounce',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('project_id', models.BigIntegerField()),
                ('email', models.CharField(help_text='Normalised, as in suppressions.', max_length=254)),
                ('days', django.contrib.postgres.fields.ArrayField(base_field=models.DateField(), size=None)),
                ('last_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'ordering': ('-last_at',),
                'indexes': [models.Index(fields=['last_at'], name='soft_bounce_last')],
                'constraints': [models.UniqueConstraint(fields=('project_id', 'email'), name='soft_bounce_project_email')],
            },
        ),
    ]
