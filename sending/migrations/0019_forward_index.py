from django.db import migrations, models

from relay_project.db.indexes import AddPartitionedIndex


class Migration(migrations.Migration):

    atomic = False
    dependencies = [("sending", "0018_forwarding")]

    operations = [
        AddPartitionedIndex(
            model_name="receivedmail",
            index=models.Index(
                condition=models.Q(("forward_send_id__isnull", False)),
                fields=["forward_send_id"],
                name="received_forward",
            ),
        ),
    ]
