from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('projects', '0004_dkim_key_states'),
    ]

    operations = [
        migrations.AddField(
            model_name='apikey',
            name='is_test',
            field=models.BooleanField(db_default=False, default=False, help_text='Its mail never leaves; for good.'),
        ),
    ]
