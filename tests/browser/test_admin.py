"""The staff admin in a browser: nothing to complain about, within a phone's width; and its pictures."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.urls import reverse

from ips.models import Incident, SendCount, Sender, SiteLimit, SourceIp
from projects.models import DomainReport
from queues.models import Queue
from sending.models import Attempt, InboundMail, Recipient, Waiting
from tests.browser.conftest import House, Visitor
from tests.browser.test_screenshots import PHONE, WANTED, Shot, take

pytestmark = pytest.mark.browser

Visitors = Callable[..., Visitor]
APPS = ("accounts", "projects", "queues", "ips", "sending", "webhooks")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def admin_house(house: House) -> House:
    """The seeded house with a sender at work, as on a good day."""
    source_ip = SourceIp.objects.first()
    assert source_ip is not None
    ahead = datetime.now(UTC) + timedelta(hours=1)  # it stays alive for as long as the pictures take
    sender = Sender.objects.create(server=source_ip.server, pid=4711, heartbeat_at=ahead)
    SourceIp.objects.update(served_by=sender)
    _make_incidents(house, source_ip, datetime.now(UTC))
    _teach(source_ip, datetime.now(UTC))
    _make_inbound(house)
    return house


def _teach(source_ip: SourceIp, now: datetime) -> None:
    """A site that told us to slow down, one that staff limit, one that they paused; and an IP in its third day."""
    told = "421 4.7.28 Our system has detected an unusual rate of unsolicited mail from this address"
    SiteLimit.objects.create(
        source_ip=source_ip, site="google", learned_per_minute=20, learned_connections=2, learned_ceiling=120,
        learned_reply=told, learned_at=now, raised_at=now, back_off_seconds=3600,
        back_off_until=now + timedelta(hours=1),
    )  # fmt: skip
    SiteLimit.objects.create(site="orange", connections=2, per_minute=60)
    SiteLimit.objects.create(site="mx1.example.org,mx2.example.org", paused_at=now, pause_reason="They move house")
    SourceIp.objects.filter(pk=source_ip.pk).update(warmup_started_on=now.date() - timedelta(days=2))
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    SendCount.objects.create(source_ip=source_ip, window="day", window_start=today, count=143)


def _make_incidents(house: House, source_ip: SourceIp, now: datetime) -> None:
    """Young enough to raise no alarm on the first page."""
    listed = "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org"
    for site, cause, rule, reply in (
        ("mx.example.net", "ip-reputation", "guard-blocklist", listed),
        ("gmail", "rate", "rate-code", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail."),
    ):
        Incident.objects.create(
            source_ip=source_ip, site=site, cause=cause, rule=rule, attempt_count=212, last_reply=reply,
            opened_at=now - timedelta(minutes=40), last_seen_at=now, last_project_id=house.rows.shop.pk,
            last_send_id=house.rows.send.pk,
        )  # fmt: skip


def _make_inbound(house: House) -> None:
    """A bounce that was applied, a forged one, and one that could not be read."""
    send = house.rows.send
    recipient = Recipient.objects.filter(send_id=send.pk, pk__gte=send.pk).earliest("pk")
    finding = {
        "address": recipient.address, "action": "failed", "class": "hard", "status": "5.1.1", "outcome": "bounced",
        "reason": "550 5.1.1 The email account that you tried to reach does not exist", "recipient": recipient.address,
        "recipient_id": recipient.pk,
    }  # fmt: skip
    token = f"b.{'ab2c' * 12}@relay.test"
    shared = {
        "peer": "2001:db8::1:25",
        "recipients": [token],
        "octets": b"Subject: x\r\n\r\n" + b"y" * 900,
        "size_bytes": 915,
    }
    InboundMail.objects.create(
        **shared, state="applied", kind="bounce", correlation="token", findings=[finding], send_id=send.pk,
        project_id=send.project_id,
    )  # fmt: skip
    InboundMail.objects.create(**shared, state="forged", kind="bounce", mail_from="someone@example.com")
    InboundMail.objects.create(**shared, state="trouble", kind="none", trouble="ValueError: the boundary is missing")


def page_of(
    row: Attempt | DomainReport | InboundMail | Queue | Incident | SiteLimit | SourceIp, page: str = "change"
) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def telling_attempt(house: House) -> Attempt:
    found = Attempt.objects.filter(send_id=house.rows.send.pk, pk__gte=house.rows.send.pk).first()
    assert found is not None
    return found


def every_page(house: House) -> list[str]:
    models = [
        model for app in APPS for model in apps.get_app_config(app).get_models() if len(model._meta.pk_fields) == 1
    ]
    lists = [reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in models]
    queue = Queue.objects.earliest("pk")
    incident = Incident.objects.earliest("pk")
    rows = [page_of(telling_attempt(house)), page_of(queue), page_of(queue, "pause"), page_of(incident)]
    rows += [page_of(incident, "close"), reverse("admin:bounce_rules_changelist") + "?reply=550+5.1.1+no+such+user"]
    learned = SiteLimit.objects.get(site="google")
    rows += [page_of(learned), page_of(learned, "set_limits"), reverse("admin:ips_sitelimit_limit_site")]
    rows += [page_of(SourceIp.objects.earliest("pk"))]
    rows += [reverse(f"admin:sending_operation_{kind}") for kind in ("flush", "reroute", "purge")]
    waiting = Waiting.objects.filter(send_id=house.rows.send.pk).first()
    assert waiting is not None
    rows += [reverse("admin:sending_waiting_change", args=[waiting.pk])]
    rows += [reverse("admin:sending_recipient_change", args=[waiting.pk])]
    rows += [reverse("admin:report_parser_changelist"), page_of(DomainReport.objects.earliest("pk"))]
    came_in = InboundMail.objects.get(state="applied")
    rows += [page_of(came_in), page_of(came_in, "source"), page_of(came_in, "read_it_again")]
    send = reverse("admin:sending_send_change", args=[house.rows.send.pk])
    rows += [reverse("admin:statistics_changelist"), reverse("admin:sending_suppression_import_list")]
    return [reverse("admin:index"), *lists, *rows, send]


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1280, "dark")])
def test_the_browser_has_nothing_to_complain_about_and_nothing_overflows(
    visitors: Visitors, admin_house: House, width: int, theme: str
) -> None:
    """The admin's content security policy lets its own scripts work, and nothing comes from elsewhere."""
    visitor = visitors(admin_house.rows.sam, width, theme)
    elsewhere: list[str] = []
    visitor.page.on("request", lambda request: elsewhere.append(request.url))
    found = {}
    for path in every_page(admin_house):
        status = visitor.visit(path)
        complaints = [f"status {status}"] if status != 200 else []
        complaints += ["overflows"] if visitor.page.evaluate(OVERFLOW) > 0 else []
        complaints += visitor.complaints
        visitor.complaints.clear()
        if complaints:
            found[path] = complaints
    assert found == {}
    assert [url for url in elsewhere if not url.startswith((admin_house.url, "data:"))] == []


def test_a_queue_is_paused_by_clicking(visitors: Visitors, admin_house: House) -> None:
    visitor = visitors(admin_house.rows.sam)
    queue = Queue.objects.earliest("pk")
    visitor.visit(page_of(queue))
    visitor.page.get_by_role("link", name="pause Pause", exact=True).click()
    visitor.page.get_by_label("Reason").fill("Maintenance of the rack")
    visitor.page.get_by_role("button", name="Pause").click()
    visitor.page.get_by_text(f"{queue.name} is paused.").wait_for()
    visitor.page.get_by_role("link", name="Resume").click()
    visitor.page.get_by_role("button", name="Resume").click()
    visitor.page.get_by_text(f"{queue.name} runs again.").wait_for()
    queue.refresh_from_db()
    assert queue.paused_at is None
    assert visitor.complaints == []


def test_a_flush_is_previewed_and_done_by_clicking(visitors: Visitors, admin_house: House) -> None:
    """On a phone, as at night; the queue's page leads there."""
    visitor = visitors(admin_house.rows.sam, 390)
    queue = Queue.objects.earliest("pk")
    visitor.visit(page_of(queue))
    visitor.page.get_by_role("link", name="Flush").click()
    assert visitor.page.get_by_label("Queue").input_value() == str(queue.pk)
    visitor.page.get_by_label("Domain").fill("university.example")
    visitor.page.get_by_label("Reason").fill("The university is back")
    visitor.page.get_by_role("button", name="Flush").click()
    visitor.page.get_by_text(f"In “{queue.name}” 1 recipient waits. What waits for a time").wait_for()
    visitor.page.get_by_role("button", name="Flush").click()
    visitor.page.get_by_text(f"Flush of {queue.name}: 1 recipient done.").wait_for()
    assert visitor.complaints == []


SHOTS = (
    Shot("admin", "/admin/", height=1000),
    Shot("admin-dark", "/admin/", theme="dark", height=1000),
    Shot("admin-phone", "/admin/", PHONE),
    Shot("admin-sends", "/admin/sending/send/"),
    Shot("admin-sends-phone-dark", "/admin/sending/send/", PHONE, "dark"),
    Shot("admin-attempt", "attempt", height=1000),
    Shot("admin-pause-dark", "pause", theme="dark", height=520),
)


SMOKE = ("admin", "admin-sends-phone-dark")


@pytest.mark.parametrize(
    "shot", SHOTS if WANTED else [shot for shot in SHOTS if shot.name in SMOKE], ids=lambda shot: shot.name
)
def test_picture(visitors: Visitors, admin_house: House, shot: Shot) -> None:
    attempt, queue = telling_attempt(admin_house), Queue.objects.earliest("pk")
    path = {"attempt": page_of(attempt), "pause": page_of(queue, "pause")}.get(shot.path, shot.path)
    named = Shot(shot.name, path, shot.width, shot.theme, shot.height)
    take(named, visitors(admin_house.rows.sam, shot.width, shot.theme))
