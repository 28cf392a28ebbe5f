"""What it costs to drop a day of a million sends, and what the mail that leaves meanwhile notices of it.

    .venv/bin/python -m tests.benchmarks.drop_a_day --sends 1000000

A PostgreSQL of its own (fsync on) with one day of history 40 days back: sends, recipients, contents of 1 KB, signatures,
attempts with a transcript, events with their positions. Beside it one connection accepts, claims and settles batches of
100, before, while and after retention runs; the result is JSON.
"""

import argparse
import json
import os
import secrets
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay_project.db.embedded import EmbeddedPostgres

AROUND_SECONDS = 8.0  # of load before and after the run

_FILL = {
    "sending_content": """(id, project_id, body_html, body_text, headers, attachments, attachment_bodies)
        SELECT {floor} + n, 1, NULL, repeat(md5(n::text), 32), '[]', '[]', '{{}}'""",
    "sending_send": """(id, uuid, project_id, queue_id, domain_id, content_id, from_address, from_name, subject, size_bytes,
                        message_date, writer_version, mailer, instance_domain)
        SELECT {floor} + n, gen_random_uuid(), 1, 1, 1, {floor} + n, 'app@shop.example', NULL, 'News ' || n, 2048,
               id_time({floor}), 1, 'Relay v0', 'relay.test'""",
    "sending_recipient": """(id, send_id, project_id, position, type, address, name, status, try_count)
        SELECT {floor} + n, {floor} + n, 1, 0, 'to', 'u' || n || '@one.example', '', 'accepted', 1""",
    "sending_signature": "(send_id, header_lines) SELECT {floor} + n, decode(repeat(md5(n::text), 50), 'hex')",
    "sending_attempt": """(id, send_id, project_id, queue_id, source_ip_id, status, try_count, domain, site, resolved_mx_hosts,
                           smtp_conversations, network_error, is_lost, duration_ms)
        SELECT {floor} + n, {floor} + n, 1, 1, 1, 'accepted', 1, 'one.example', 'mx.one.example', '["mx.one.example"]',
               jsonb_build_object('mx.one.example', repeat(md5(n::text), 20)), '', false, 12""",
    "sending_attemptrecipient": """(id, attempt_id, send_id, recipient_id, recipient_status, smtp_code, smtp_message, category,
                                    rule, is_suppressed)
        SELECT {floor} + n, {floor} + n, {floor} + n, {floor} + n, 'accepted', 250, '2.0.0 taken', '', '', false""",
    "projects_event": """(id, project_id, kind, subject_kind, subject_id, version, payload)
        SELECT {floor} + n, 1, 'send.recipient.accepted', 'send', {floor} + n, 1,
               jsonb_build_object('send', repeat(md5(n::text), 8))""",
    "projects_feedposition": "(event_id) SELECT {floor} + n",
}
# One batch of mail from accept to settle: the same tables and indexes as the product's statements, without its client.
_ACCEPT = """
WITH ids AS MATERIALIZED (SELECT new_id() AS id FROM generate_series(1, 100)),
content AS (INSERT INTO sending_content (id, project_id, body_text, headers, attachments, attachment_bodies)
            SELECT id, 1, repeat('x', 1024), '[]', '[]', '{}' FROM ids),
send AS (INSERT INTO sending_send (id, uuid, project_id, queue_id, domain_id, content_id, from_address, size_bytes,
                                   message_date, writer_version, mailer, instance_domain)
         SELECT id, gen_random_uuid(), 1, 1, 1, id, 'app@shop.example', 2048, now(), 1, 'Relay v0', 'relay.test' FROM ids),
recipient AS (INSERT INTO sending_recipient (id, send_id, project_id, position, type, address, name, status, try_count)
              SELECT id, id, 1, 0, 'to', 'u@one.example', '', 'queued', 0 FROM ids)
INSERT INTO sending_waiting (recipient_id, send_id, project_id, queue_id, lane, priority, domain, size_bytes, phase, due_at,
                             tries, lost)
SELECT id, id, 1, 1, 1, 0, 'one.example', 2048, 0, now(), 0, 0 FROM ids
"""
_CLAIM = """
UPDATE sending_waiting SET phase = 1, attempt_id = new_id(), sender_id = 1, lease_until = now() + interval '5 min'
 WHERE recipient_id = ANY(ARRAY(SELECT recipient_id FROM sending_waiting WHERE phase = 0 AND lane = 1
        ORDER BY priority, project_id, due_at, recipient_id LIMIT 100 FOR UPDATE SKIP LOCKED))
RETURNING recipient_id
"""
_SETTLE = """
WITH attempt AS (INSERT INTO sending_attempt (send_id, project_id, queue_id, status, try_count, domain, site,
                   resolved_mx_hosts, smtp_conversations, network_error, is_lost, duration_ms)
                 SELECT id, 1, 1, 'accepted', 1, 'one.example', '', '[]', '{{}}', '', false, 1 FROM unnest(%(ids)s) AS id),
done AS (DELETE FROM sending_waiting WHERE recipient_id = ANY(%(ids)s))
UPDATE sending_recipient SET status = 'accepted' WHERE id = ANY(%(ids)s) AND id BETWEEN {low} AND {high}
"""


class Beside(threading.Thread):
    """Mail that is accepted and leaves, batch after batch; each batch's start and milliseconds."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.stopping = url, threading.Event()
        self.batches: list[tuple[float, float]] = []

    def run(self) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET plan_cache_mode = force_custom_plan")
            while not self.stopping.is_set():
                begun = time.monotonic()
                connection.execute(_ACCEPT)
                ids = [row[0] for row in connection.execute(_CLAIM).fetchall()]
                statement = _SETTLE.format(low=min(ids), high=max(ids))
                connection.execute(statement, {"ids": ids})
                self.batches.append((begun, (time.monotonic() - begun) * 1000))

    def between(self, start: float, end: float) -> dict[str, float]:
        """Mails a second, and how long batches took."""
        times = sorted(ms for begun, ms in self.batches if start <= begun + ms / 1000 < end) or [0.0]
        return {
            "mails_per_second": round(100 * len(times) / (end - start)),
            "batch_p50_ms": round(statistics.median(times), 1),
            "batch_p99_ms": round(times[int(len(times) * 0.99)], 1),
            "batch_max_ms": round(times[-1], 1),
        }


def fill(sends: int) -> float:
    """One day of history; returns the seconds it took."""
    from django.db import connection

    from tests.history import ago, id_on, make_days

    begun = time.monotonic()
    with connection.cursor() as cursor:
        make_days(cursor, [ago(40)])
        floor = id_on(ago(40)) - 4_000_000_000
        for table, rest in _FILL.items():
            statement = rest.format(floor=floor)
            cursor.execute(f"INSERT INTO {table} {statement} FROM generate_series(1, {sends}) AS n")
        cursor.execute("ANALYZE")
        cursor.execute("CHECKPOINT")
    return time.monotonic() - begun


def measure(url: str, sends: int) -> dict[str, Any]:
    """Fill, run retention beside mail, and tell."""
    import django

    django.setup()
    from django.db import connection

    from relay_project import retention
    from relay_project.db.migrate import migrate_if_needed

    migrate_if_needed()
    filled = fill(sends)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        before = cursor.fetchone()[0]
    beside = Beside(url)
    beside.start()
    time.sleep(AROUND_SECONDS)
    swept_from: list[float] = []
    sweep_rows = retention._sweep_rows

    def noted(*arguments: Any) -> None:
        swept_from.append(time.monotonic())
        sweep_rows(*arguments)

    retention._sweep_rows = noted  # type: ignore[assignment]
    begun = time.monotonic()
    run = retention.run(datetime.now(UTC))
    ended = time.monotonic()
    time.sleep(AROUND_SECONDS)
    beside.stopping.set()
    beside.join()
    assert run is not None
    assert run.kept_back == []
    return {
        "sends": sends,
        "filled_in_seconds": round(filled, 1),
        "database_mb_before": before // 2**20,
        "freed_mb": run.size_bytes // 2**20,
        "tables_days": run.partitions,
        "rows_deleted": run.rows,
        "dropping_seconds": round(swept_from[0] - begun, 2),
        "sweeping_seconds": round(ended - swept_from[0], 2),
        "before": beside.between(begun - AROUND_SECONDS, begun),
        "while_dropping": beside.between(begun, swept_from[0]),
        "while_sweeping": beside.between(swept_from[0], ended),
        "after": beside.between(ended, ended + AROUND_SECONDS),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sends", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-drop-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "data") as server:
            os.environ |= {
                "DATABASE_URL": server.url,
                "APP_SECRET": secrets.token_hex(32),
                "DJANGO_SETTINGS_MODULE": "relay_project.settings",
                "LOG_LEVEL": "warning",
            }
            print(json.dumps(measure(server.url, arguments.sends), indent=2))


if __name__ == "__main__":
    main()
