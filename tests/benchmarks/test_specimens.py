"""Copies of a few accepted messages: they wait, and lie in history, as if they had been accepted one by one."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from relay_project.bench.build import copy_day
from relay_project.bench.history import empty_present
from relay_project.bench.plan import BenchError, Traffic, make_plan
from relay_project.bench.specimens import SPECIMENS, queue_clones
from relay_project.bench.stage import fill, make_stages, read_ledger, waiting_count
from relay_project.db.ids import id_floor, id_of_uuid, id_time
from relay_project.db.partitions import partition_name, partitioned_tables
from sending.backlog.ledger import read_ledger as read_product_ledger
from sending.content import raw_message
from sending.models import Content, Recipient, Send, Waiting

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.journey]


def test_copies_wait_like_the_mail_they_were_made_of() -> None:
    [project] = make_stages(1)
    queue_clones(project, 3 * SPECIMENS, Traffic(body_bytes=500), first=1000)
    assert waiting_count(project.pk) == Waiting.objects.count() == 3 * SPECIMENS
    assert Content.objects.count() == SPECIMENS
    addresses = set(Recipient.objects.values_list("address", flat=True))
    numbers = {int(address.partition("@")[0].partition("-")[2]) for address in addresses}
    assert numbers == set(range(1000, 1000 + 3 * SPECIMENS))
    for send in Send.objects.order_by("-id")[:5]:
        assert id_of_uuid(send.uuid) == send.pk
        assert send.content_id < send.pk
        assert b"X-Mailer" in raw_message(send)
    assert read_product_ledger().is_good
    newest = Waiting.objects.latest("recipient_id")
    assert newest.recipient_id < id_floor(datetime.now(UTC))


def test_history_lies_in_its_day_and_a_run_forgets_the_present_only() -> None:
    since = id_floor(datetime.now(UTC))
    projects = make_stages(1)
    fill(projects, make_plan("drain", messages=10, recipients=20))
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with connection.cursor() as cursor:
        tables = dict(partitioned_tables(cursor))
    with pytest.raises(BenchError, match="not finished"):
        empty_present()
    assert copy_day(tables, since, yesterday, 30 * SPECIMENS * 20) > 10_000
    assert read_ledger(since).waiting == 200
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_history AS SELECT 1::bigint AS recipients, %s::date AS last_day", [yesterday]
        )
    try:
        empty_present()
        old = list(Recipient.objects.order_by("id"))
        assert len(old) == 200
        assert {id_time(recipient.pk).date() for recipient in old} == {yesterday}
        assert Send.objects.count() == Content.objects.count() == 10
        assert Waiting.objects.count() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE bench_history")
            for table in tables:
                cursor.execute(f"DROP TABLE {partition_name(table, yesterday)}")
