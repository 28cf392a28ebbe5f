import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    # Safe beside the version before: it knows rows of whole projects only, and finds them by project and address as it did.

    dependencies = [
        ('projects', '0002_content_days'),
        ('sending', '0008_since'),
    ]

    operations = [
        migrations.AddField(
            model_name='send',
            name='list',
            field=models.CharField(help_text="The customer's name of the list it is for; suppressions of that list apply.", max_length=64, null=True),
        ),
        migrations.AddField(
            model_name='send',
            name='list_unsubscribe',
            field=models.TextField(help_text='List-Unsubscribe as sent. Stored, since who signs its link may change.', null=True),
        ),
        migrations.AddField(
            model_name='suppression',
            name='expires_at',
            field=models.DateTimeField(blank=True, help_text='From then on it suppresses nothing.', null=True),
        ),
        migrations.AddField(
            model_name='suppression',
            name='list',
            field=models.CharField(blank=True, help_text='Normalised; goes with list_project.', max_length=64, null=True),
        ),
        migrations.AddField(
            model_name='suppression',
            name='list_project',
            field=models.ForeignKey(blank=True, db_index=False, help_text='Mail of one of its lists.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='projects.project'),
        ),
        migrations.AlterField(
            model_name='suppression',
            name='project',
            field=models.ForeignKey(blank=True, db_index=False, help_text='All of its mail.', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='suppressions', to='projects.project'),
        ),
        migrations.AlterField(
            model_name='suppression',
            name='reason',
            field=models.CharField(choices=[('bounce', 'Bounce'), ('complaint', 'Complaint'), ('unsubscribe', 'Unsubscribe'), ('manual', 'Manual')], max_length=12),
        ),
        migrations.AddIndex(
            model_name='suppression',
            index=models.Index(condition=models.Q(('expires_at__isnull', False)), fields=['expires_at'], name='suppression_expires'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.UniqueConstraint(fields=('list_project', 'list', 'email'), name='suppression_list_email'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.UniqueConstraint(condition=models.Q(('list_project__isnull', True), ('project__isnull', True)), fields=('email',), name='suppression_instance_email'),
        ),
        migrations.AddConstraint(
            model_name='suppression',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('list__isnull', True), ('list_project__isnull', True)), models.Q(('list__isnull', False), ('list_project__isnull', False), ('project__isnull', True)), _connector='OR'), name='suppression_has_one_scope'),
        ),
    ]
