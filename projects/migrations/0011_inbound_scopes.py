from django.db import migrations

# Who may see mail and domains may see what comes in, and who may change domains and webhooks may say where it goes: the
# members that the roles of this version would give it to. Keys stay as they are; nobody made them for it.
GRANT = """
UPDATE {table} SET scopes = scopes || ARRAY['inbound.read']::varchar[]
 WHERE scopes @> ARRAY['sends.read', 'domains.read']::varchar[] AND NOT scopes @> ARRAY['inbound.read']::varchar[];
UPDATE {table} SET scopes = scopes || ARRAY['inbound.write']::varchar[]
 WHERE scopes @> ARRAY['domains.write', 'webhooks.write']::varchar[] AND NOT scopes @> ARRAY['inbound.write']::varchar[];
"""


class Migration(migrations.Migration):
    # Safe beside the version before, which passes over scopes that it does not know.

    dependencies = [
        ('projects', '0010_domain_report'),
    ]

    operations = [
        migrations.RunSQL(GRANT.format(table=table), migrations.RunSQL.noop)
        for table in ('projects_membership', 'projects_invitation')
    ]
