import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    # Safe beside the version before: columns that are null, or empty, where it writes rows.

    dependencies = [("sending", "0017_waiting_since")]

    operations = [
        migrations.AddField(
            model_name="send",
            name="forwarded_from",
            field=models.TextField(
                help_text="Whose mail is passed on: its envelope sender, empty for <>; null: a mail of the project's own.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="inboundroute",
            name="forward_to",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=254),
                blank=True,
                help_text="The addresses of a route that forwards.",
                null=True,
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="inboundroute",
            name="action",
            field=models.CharField(
                choices=[("event", "Event"), ("forward", "Forward"), ("drop", "Drop"), ("reject", "Reject")],
                default="event",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="receivedmail",
            name="forward_to",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=254),
                blank=True,
                help_text="To whom it is passed on; null: to nobody.",
                null=True,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="receivedmail",
            name="forward_send_id",
            field=models.BigIntegerField(blank=True, help_text="The send by which it was passed on.", null=True),
        ),
        migrations.AddField(
            model_name="receivedmail",
            name="forward_error",
            field=models.CharField(
                blank=True, db_default="", default="", help_text="Why it was not passed on.", max_length=200
            ),
        ),
        migrations.AddField(
            model_name="receivedmail",
            name="returns_send_id",
            field=models.BigIntegerField(
                blank=True, help_text="The forward that it is about: it goes back to whose mail that was.", null=True
            ),
        ),
    ]
