"""A browser, a server and a project with a past. Chromium is Debian's; nothing is downloaded, nothing leaves the machine."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from tests import database
from tests.browser.seed import Seeded, seed

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--font-render-hinting=none"),
]
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser; a machine without one leaves these tests out.

    For one file only: as long as it lives playwright keeps a loop running in this thread, and no other test could run its own.
    """
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    with sync_playwright() as playwright:
        # Django would refuse the ORM beside a running loop
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()
        if before is None:
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass
class House:
    """The server with its rows."""

    url: str
    rows: Seeded

    def address(self, path: str) -> str:
        """A page's address; `{shop}` and the like stand for ids."""
        rows = self.rows
        return self.url + path.format(
            shop=f"/console/{rows.shop.pk}",
            empty=f"/console/{rows.empty.pk}",
            send=f"/console/{rows.shop.pk}/sends/{rows.send.uuid}",
            given_up=f"/console/{rows.shop.pk}/sends/{rows.given_up.uuid}",
            domain=f"/console/{rows.shop.pk}/domains/{rows.domain.pk}",
            pending=f"/console/{rows.shop.pk}/domains/{rows.pending.pk}",
            mailbox=f"/console/{rows.shop.pk}/mailboxes/{rows.mailbox.pk}",
            webhook=f"/console/{rows.shop.pk}/webhooks/{rows.webhook.pk}",
            delivery=f"/console/{rows.shop.pk}/webhooks/deliveries/{rows.delivery.pk}",
            member=f"/console/{rows.shop.pk}/members/{rows.member.pk}",
            unsubscribe=rows.unsubscribe,
            receiving=f"/console/{rows.shop.pk}/receiving/{rows.receiving.pk}",
            route=f"/console/{rows.shop.pk}/routes/{rows.receiving.routes.first().pk}",
            received=f"/console/{rows.shop.pk}/received/{rows.received.pk}",
            mail=f"/console/{rows.shop.pk}/sandbox/{rows.message.pk}",
        )


@pytest.fixture(scope="module")
def house(chromium: Browser, django_db_setup: None, django_db_blocker: Any) -> Iterator[House]:
    """A live server over seeded rows, for the tests of one file; the rows are gone afterwards."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        # The server's threads live as long as the browser keeps a connection; they need not keep the database's.
        patch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
        server = LiveServer("127.0.0.1")
        try:
            yield House(server.url, seed(datetime.now(UTC)))
        finally:
            server.stop()
            database.empty()
            # Beside playwright's loop Django keeps connections apart from those of the thread without a loop: nobody
            # else would close them.
            connections.close_all()


@dataclass
class Visitor:
    """A person at a browser window. `complaints`: what the browser's console said."""

    page: Page
    house: House
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Collect errors: exceptions, refused scripts and styles, missing files."""
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _is_the_sandbox_at_work(message):
            self.complaints.append(f"{message.type}: {message.text}")

    def visit(self, path: str) -> int:
        """Open a page; its status."""
        response = self.page.goto(self.house.address(path))
        assert response is not None
        return response.status


def _is_the_sandbox_at_work(message: ConsoleMessage) -> bool:
    """A mail's script and tracking pixel are refused inside the preview: that is what it is for."""
    return (
        "preview.html" in str(message.location.get("url", ""))
        or "preview.html" in message.text
        or "tracker.example" in message.text
    )


def session_of(person: User) -> str:
    """A session key, as signing in would make it."""
    store = SessionStore()
    store[SESSION_KEY] = str(person.pk)
    store[BACKEND_SESSION_KEY] = "accounts.sign_in.PasswordBackend"
    store[HASH_SESSION_KEY] = person.get_session_auth_hash()
    store.create()
    assert store.session_key is not None
    return store.session_key


@pytest.fixture
def visitors(chromium: Browser, house: House) -> Iterator[Any]:
    """Makes visitors: `visitors(person, width=1280, theme="light", script=True)`."""
    contexts: list[BrowserContext] = []

    def make(person: User | None, width: int = 1280, theme: Any = "light", script: bool = True) -> Visitor:
        height = 844 if width < 600 else 860
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=script
        )
        contexts.append(context)
        if person is not None:
            context.add_cookies([{"name": "relay_session", "value": session_of(person), "url": house.url}])
        visitor = Visitor(context.new_page(), house)
        visitor.listen()
        return visitor

    yield make
    for context in contexts:
        context.close()
