from django.db import migrations


class Migration(migrations.Migration):
    # Scheduled by a version that did not write when a lifetime begins: it would be over before the first try.

    dependencies = [
        ('sending', '0007_order_name'),
    ]

    operations = [
        migrations.RunSQL(
            "UPDATE sending_waiting SET since = due_at WHERE phase = 1 AND attempt_id IS NULL AND due_at > now()"
            " AND tries = 0 AND lost = 0 AND since IS NULL",
            migrations.RunSQL.noop,
        ),
    ]
