from django.db import migrations, models


class Migration(migrations.Migration):
    # Safe beside the version before, which makes no batches: a column that is null there is nothing to fill in.

    dependencies = [("sending", "0013_search_sends")]

    operations = [
        migrations.AddField(
            model_name="send",
            name="variables",
            field=models.JSONField(help_text="Its values in a content that others share; null: none.", null=True),
        ),
    ]
