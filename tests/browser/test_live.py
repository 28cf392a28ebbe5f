"""Pages that move by the live stream, with a run_live beside them, and without one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection
from playwright.sync_api import expect

from projects.events import NewEvent, emit, sequence_outbox
from sending.models import Recipient, Send
from tests.browser.conftest import House, Visitor
from tests.test_run_web import free_ports
from tests.webhooks.live.running import Live, running

pytestmark = pytest.mark.browser
Visitors = Callable[..., Visitor]


@pytest.fixture
def live(house: House, tmp_path: Path, settings) -> Iterator[Live]:
    port, probe = free_ports(2)
    with running(tmp_path, port, probe, WEB_URL=house.url, LIVE_URL=f"http://127.0.0.1:{port}") as process:
        settings.LIVE_URL = f"http://127.0.0.1:{port}"
        policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
        settings.CONTENT_SECURITY_POLICY = {
            "DIRECTIVES": {**policy, "connect-src": ["'self'", f"ws://127.0.0.1:{port}"]}
        }
        yield process


def happen(send: Send, kind: str = "send.recipient.accepted") -> None:
    emit(NewEvent(send.project_id, kind, "send", send.pk, {}))
    with connection.cursor() as cursor:
        sequence_outbox(cursor)


def test_the_list_and_a_send_move_by_themselves(visitors: Visitors, house: House, live: Live) -> None:
    visitor = visitors(house.rows.alice)
    page = visitor.page
    send = house.rows.given_up
    visitor.visit("{given_up}")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    people = Recipient.objects.filter(send_id=send.pk)
    before = dict(people.values_list("pk", "status"))
    people.update(status="complained")
    try:
        happen(send)
        expect(page.locator(".recipients .chip", has_text="complained").first).to_be_visible()
        expect(page.locator("#send-state")).to_contain_text("complained")

        visitor.visit("{shop}/sends")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        first = page.locator("#sends a.row-link").first
        Send.objects.filter(pk=house.rows.send.pk).update(subject="Moved by the stream")
        page.locator(f"#send-{house.rows.send.pk}").focus()
        happen(house.rows.send)
        expect(page.get_by_role("link", name="Moved by the stream")).to_be_visible()
        expect(page.locator(f"#send-{house.rows.send.pk}")).to_be_focused()
        expect(first).to_be_visible()

        page.get_by_role("link", name="Load more").click()
        expect(page.locator("#sends a.row-link")).to_have_count(50)
        happen(house.rows.send)
        expect(page.get_by_role("link", name="Something has happened")).to_be_visible()
        expect(page.locator("#sends a.row-link")).to_have_count(50)
        assert visitor.complaints == []
    finally:
        for number, status in before.items():
            people.filter(pk=number).update(status=status)
        Send.objects.filter(pk=house.rows.send.pk).update(subject=house.rows.send.subject)


def test_the_stream_is_opened_again_after_a_restart_and_misses_nothing(
    visitors: Visitors, house: House, live: Live, tmp_path: Path
) -> None:
    visitor = visitors(house.rows.alice, 390, "dark")
    page = visitor.page
    visitor.visit("{shop}/sends")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    port, probe = live.address[1], live.probe
    live.process.terminate()
    assert live.process.wait(10) == 0
    expect(page.get_by_text("live", exact=True)).to_be_hidden()
    Send.objects.filter(pk=house.rows.send.pk).update(subject="While it was away")
    happen(house.rows.send)
    with running(tmp_path, port, probe, WEB_URL=house.url, LIVE_URL=f"http://127.0.0.1:{port}"):
        expect(page.get_by_role("link", name="While it was away")).to_be_visible(timeout=20_000)
    Send.objects.filter(pk=house.rows.send.pk).update(subject=house.rows.send.subject)
