"""Lesson P10: 64-bit ids everywhere."""

import pytest
from django.apps import apps
from django.db import connection, models

OURS = ("relay_project", "accounts", "projects", "queues", "ips", "sending", "webhooks")
NARROW = (models.AutoField, models.SmallAutoField, models.IntegerField)
WIDE = (models.BigAutoField, models.BigIntegerField)


def test_every_model_has_a_wide_key():
    """Lesson P10: int4 ids of attempt rows were used up after 214 days at 10 million mails a day."""
    for label in OURS:
        for model in apps.get_app_config(label).get_models():
            key = model._meta.pk
            assert isinstance(key, WIDE) or not isinstance(key, NARROW), f"{model.__name__} has a {key}"


@pytest.mark.django_db
def test_no_column_that_holds_an_id_is_narrow():
    """Lesson P10, on what the migrations really made: keys, whatever points to one, and the sequences behind them."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.table_name || '.' || c.column_name FROM information_schema.columns c
                WHERE c.table_schema = current_schema() AND c.data_type IN ('integer', 'smallint')
                  AND c.table_name ~ '^(accounts|projects|queues|ips|sending|webhooks|relay_project)_'
                  AND (c.column_name = 'id' OR c.column_name LIKE '%\\_id'
                       OR c.column_default LIKE 'nextval%')
                ORDER BY 1"""
        )
        narrow = [name for (name,) in cursor.fetchall()]
        cursor.execute(
            """SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema()
                AND data_type::text <> 'bigint' AND sequencename ~ '^(accounts|projects|queues|ips|sending|new_id)'"""
        )
        sequences = [name for (name,) in cursor.fetchall()]
    assert narrow == []
    assert sequences == []
