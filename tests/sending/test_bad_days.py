"""What a bad day brings all at once: many held sites, many lessons, clocks that jump."""

import time

import pytest
from django.db import connection
from django.utils import timezone

from ips.models import HeldSite
from ips.senders import ServedIp
from sending.deliver.claim import ANY_PRIORITY
from sending.deliver.held import HeldMail
from sending.deliver.shaper import Shaper
from tests.sending.scene import Scene, insert_waiting


def hold_many(scene: Scene, count: int, **columns: str) -> int:
    """One row on each of so many held sites; returns the first site's id less one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ips_heldsite (queue_id, site, reason, next_slot) "
            "SELECT %s, 'mx' || i || '.example', 'slow', now() FROM generate_series(1, %s) i",
            [scene.queue.pk, count],
        )
    before = HeldSite.objects.order_by("id").values_list("pk", flat=True)[0] - 1
    insert_waiting(scene, count, **{"phase": "2", "held_site_id": f"{before} + i", **columns})
    return before


def look(scene: Scene, mail: HeldMail, rows: int, ips: int = 1) -> list[int]:
    """What one look takes."""
    serving = [ServedIp(scene.ip.id + n, f"192.0.2.{n + 1}", f"192.0.2.{n + 1}", (scene.queue.pk,)) for n in range(ips)]
    mail.looked_at = -1e9
    taken = mail.take(serving, rows, scene.sender.pk, 330, timezone.now(), ANY_PRIORITY)
    mail.postpone(timezone.now())
    return [row.recipient_id for row in taken]


def test_many_held_sites_do_not_keep_a_sender_from_what_is_due(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage hundreds of sites open at once: each cost two statements for each IP, in one look."""
    hold_many(scene, 200)
    mail = HeldMail(Shaper())
    statements: list[str] = []
    with connection.execute_wrapper(lambda run, sql, *args: (statements.append(sql), run(sql, *args))[1]):
        started = time.monotonic()
        taken = look(scene, mail, 2000, ips=8)
        seconds = time.monotonic() - started
    assert taken
    assert seconds < 1.0
    assert len(statements) <= 2 * len(taken) + 5, "an IP does not ask for what another found to be gone"
    monkeypatch.setattr("sending.deliver.held.TAKE_SECONDS", 60.0)
    assert len(taken) + len(look(scene, mail, 2000)) == 200, "the others have their turn at the next look"


def test_urgent_mail_is_taken_before_bulk_of_other_held_sites(scene: Scene) -> None:
    hold_many(scene, 60, priority="CASE WHEN i = 31 THEN 0 ELSE 10 END")
    assert look(scene, HeldMail(Shaper()), 1) == [31]
