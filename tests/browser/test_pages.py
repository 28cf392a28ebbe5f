"""Every page of the console in a browser: no complaint of the browser's, legible, and within a phone's width."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.conftest import House, Visitor
from tests.browser.pages import PAGES, PLAIN_PAGES

pytestmark = pytest.mark.browser

AUDIT = (Path(__file__).parent / "audit.js").read_text()
Visitors = Callable[..., Visitor]


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (1280, "dark")])
def test_pages_are_legible_and_the_browser_has_nothing_to_complain_about(
    visitors: Visitors, house: House, width: int, theme: str
) -> None:
    """And none loads anything from elsewhere. A theme changes no width, so those in between are tried with one of them."""
    visitor = visitors(house.rows.alice, width, theme)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    found = {}
    for path in (*PAGES, *PLAIN_PAGES):
        visitor.page.set_viewport_size({"width": width, "height": 844})
        status = visitor.visit(path)
        complaints = [f"status {status}"] if status != 200 else []
        complaints += visitor.page.evaluate(AUDIT)
        for between in (600, 768, 900) if width > 900 else ():
            visitor.page.set_viewport_size({"width": between, "height": 844})
            complaints += [f"overflows at {between}"] if visitor.page.evaluate(OVERFLOW) > 0 else []
        complaints += visitor.complaints
        visitor.complaints.clear()
        if complaints:
            found[path] = complaints
    assert found == {}
    elsewhere = [url for url in asked if not url.startswith((house.url, "data:"))]
    # the pixel in the mail is asked for by the document and refused by its policy before anything leaves
    assert [url for url in elsewhere if "tracker.example" not in url] == []
    assert visitor.page.evaluate("performance.getEntriesByType('resource').map(e => e.name)").count("tracker") == 0


def test_error_pages_stand_in_the_same_style(visitors: Visitors, house: House) -> None:
    visitor = visitors(house.rows.charlie, 360)
    assert visitor.visit("/nowhere") == 404
    assert visitor.page.evaluate(AUDIT) == []
    assert visitor.visit("{shop}") == 404  # a stranger learns nothing
    assert "There is nothing here" in visitor.page.inner_text("main")
