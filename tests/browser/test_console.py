"""What people do in the console, as they do it: with a script, and where it can be, without one."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from accounts.sign_in import make_link
from projects.models import ApiKey, Domain, Project
from sending.models import Phase, Recipient, Waiting
from tests.browser.conftest import House, Visitor
from tests.browser.seed import PASSWORD

pytestmark = pytest.mark.browser
Visitors = Callable[..., Visitor]


def test_signing_in_leads_to_a_project(visitors: Visitors, house: House) -> None:
    page = visitors(None).page
    page.goto(house.address("/"))  # what one types by hand
    page.get_by_label("Login").fill("alice@shop.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Paper & Pencil shop")


def test_a_one_time_link_signs_in_by_its_button(visitors: Visitors, house: House) -> None:
    """Browsers post "Origin: null" from a page without referrer, which only a browser shows."""
    visitor = visitors(None)
    page = visitor.page
    page.goto(house.url + urlsplit(make_link(house.rows.alice, datetime.now(UTC))).path)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Paper & Pencil shop")
    assert visitor.complaints == []


@pytest.mark.parametrize("script", [True, False])
def test_sends_can_be_filtered_and_paged(visitors: Visitors, house: House, script: bool) -> None:
    visitor = visitors(house.rows.alice, script=script)
    page = visitor.page
    visitor.visit("{shop}/sends")
    expect(page.locator("#sends a.row-link")).to_have_count(25)
    page.get_by_role("link", name="Load more").click()
    expect(page.locator("#sends a.row-link")).to_have_count(50 if script else 25)
    visitor.visit("{shop}/sends")
    page.get_by_label("Subject").fill("order 4711")
    if not script:
        page.get_by_role("button", name="Apply").click()
    expect(page.locator("#sends a.row-link")).to_have_count(2)
    page.get_by_label("Status").select_option("suppressed")
    if not script:
        page.get_by_role("button", name="Apply").click()
    expect(page.locator("#sends a.row-link")).to_have_count(1)
    assert "status=suppressed" in page.url
    assert visitor.complaints == []


def test_a_send_shows_who_waits_and_what_was_said(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice)
    page = visitor.page
    visitor.visit("{send}")
    waiting = page.locator(".recipients li", has_text="registrar@university.example")
    expect(waiting).to_contain_text("No connection to 198.51.100.77 port 25 within 30 s. Try 2 of 7 follows at")
    expect(page.locator(".recipients li", has_text="no.longer.here")).to_contain_text(
        "now on the project's suppression list"
    )
    page.get_by_text("Try 1 for example.net").click()
    talk = page.get_by_role("region", name="SMTP conversation with mx1.example.net").first
    expect(talk).to_contain_text("451 4.7.1 Greylisted, please try again later")


def test_what_waits_is_tried_now(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice, 390, "dark")
    page = visitor.page
    visitor.visit("{send}")
    waiting = Waiting.objects.filter(send_id=house.rows.send.pk)
    before = waiting.values().get()
    try:
        page.get_by_role("button", name="Try now").click()
        expect(page.get_by_role("status").first).to_contain_text("What waited is due now")
        expect(page.get_by_role("button", name="Try now")).to_have_count(0)
        assert waiting.get().phase == Phase.DUE
    finally:
        waiting.update(**before)
    assert visitor.complaints == []


@pytest.mark.parametrize("script", [True, False])
def test_failed_recipients_are_chosen_and_retried(visitors: Visitors, house: House, script: bool) -> None:
    visitor = visitors(house.rows.alice, script=script)
    page, send = visitor.page, house.rows.given_up
    visitor.visit("{given_up}")
    try:
        page.get_by_text("Retry what failed").click()
        page.get_by_label("b.okafor@university.example").uncheck()
        page.get_by_label("Not before").fill("2020-01-01T00:00")
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(".errorlist")).to_contain_text("This time is past")
        expect(page.get_by_label("b.okafor@university.example")).not_to_be_checked()
        visitor.complaints.clear()  # the browser reports the 400
        page.get_by_label("Not before").fill("")
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status").first).to_contain_text("1 recipient will be tried again now")
        expect(page.locator(".recipients li", has_text="chiara")).to_contain_text(
            "No sender is running that could carry it."
        )
        assert list(
            Recipient.objects.filter(send_id=send.pk).order_by("position").values_list("status", flat=True)
        ) == [
            "accepted",
            "failed",
            "queued",
        ]
    finally:
        Waiting.objects.filter(send_id=send.pk).delete()
        Recipient.objects.filter(send_id=send.pk, status="queued").update(status="failed")
    assert visitor.complaints == []


def test_the_preview_runs_nothing_of_the_mail(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice)
    visitor.visit("{send}/preview")
    frame = visitor.page.frame_locator("iframe")
    expect(frame.get_by_role("heading")).to_have_text("Thank you for your order")
    assert "scripts run here" not in frame.locator("body").inner_text()
    visitor.visit("{send}/preview.html")  # nor when it is opened by itself
    assert "scripts run here" not in visitor.page.inner_text("body")
    assert visitor.page.evaluate("window.origin") == "null"


def test_a_domain_is_added_and_deleted_by_typing_its_name(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice)
    page = visitor.page
    visitor.visit("{shop}/domains/new")
    page.get_by_label("Domain").fill("not a domain")
    page.get_by_role("button", name="Add domain").click()
    expect(page.locator(".errorlist")).to_contain_text("not a full domain name")
    page.get_by_label("Domain").fill("Fresh.Example")
    page.get_by_role("button", name="Add domain").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("fresh.example")
    expect(page.locator("#value-1")).to_contain_text("v=DKIM1; k=rsa; p=")
    page.get_by_text("Delete this domain").click()
    button = page.get_by_role("button", name="Delete fresh.example")
    expect(button).to_be_disabled()
    page.get_by_label("to confirm").fill("fresh.example")
    button.click()
    expect(page.get_by_role("status")).to_contain_text("fresh.example is deleted")
    assert not Domain.objects.filter(domain="fresh.example").exists()


def test_a_key_is_shown_once(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice)
    page = visitor.page
    visitor.visit("{shop}/keys/new")
    page.get_by_role("textbox", name="Name").fill("Till")
    page.get_by_role("button", name="Sender").click()
    page.get_by_role("button", name="Create key").click()
    expect(page.locator(".errorlist")).to_contain_text("At least one allowed IP")
    page.get_by_label("Allowed addresses").fill("192.0.2.7\n192.0.2.9")
    page.get_by_role("button", name="Create key").click()
    token = page.locator("#token").inner_text()
    assert re.fullmatch(r"[0-9a-f]{32}", token)
    expect(page.locator("#curl")).to_contain_text(f"Bearer {token}")
    page.reload()  # the address bar has forgotten the form
    expect(page.get_by_role("heading", level=1)).to_have_text("API keys")
    assert token not in page.content()
    assert ApiKey.objects.get(name="Till").scopes == ["sends.send"]
    page.get_by_role("button", name="Disable Till").click()
    expect(page.get_by_role("status")).to_contain_text("Till is disabled")
    assert not ApiKey.objects.get(name="Till").is_enabled


def test_a_member_sees_what_the_scopes_allow(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.bob)
    assert visitor.visit("{shop}") == 200
    expect(visitor.page.get_by_role("link", name="API keys")).to_have_count(0)
    assert visitor.visit("{shop}/keys") == 403
    assert visitor.visit("{empty}") == 404


def test_staff_may_look_into_every_project(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.sam)
    assert visitor.visit("{send}") == 200
    assert visitor.visit("{shop}/keys") == 403
    assert visitor.visit("{shop}/settings") == 200
    assert visitor.visit("{shop}/members") == 200
    expect(visitor.page.get_by_text("Invite")).to_have_count(0)


def test_a_project_is_founded(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.charlie)
    page = visitor.page
    visitor.visit("/console/")  # belongs to none: asked to make one
    page.get_by_label("Name").fill("Charlie's list")
    page.get_by_text("Distributional mail").click()
    page.get_by_role("button", name="Create project").click()
    expect(page.get_by_role("heading", name="Getting started")).to_be_visible()
    assert Project.objects.get(name="Charlie's list").send_type == "distributional"


@pytest.mark.parametrize("script", [True, False])
def test_the_theme_is_a_choice_that_stays(visitors: Visitors, house: House, script: bool) -> None:
    visitor = visitors(house.rows.alice, script=script)
    page = visitor.page
    visitor.visit("{shop}/sends")
    page.locator("summary[title=Theme]").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.url == house.address("{shop}/sends")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert visitor.complaints == []


def test_the_navigation_opens_on_a_phone(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice, 360)
    page = visitor.page
    visitor.visit("{shop}")
    expect(page.get_by_role("link", name="Domains")).to_be_hidden()
    page.get_by_role("button", name="Navigation").click()
    page.get_by_role("link", name="Domains").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Domains")


def test_the_keyboard_reaches_the_content_first(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.alice)
    visitor.visit("{shop}/sends")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.className") == "skip-link"
    visitor.page.keyboard.press("Enter")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.querySelector('main').contains(document.activeElement)")
