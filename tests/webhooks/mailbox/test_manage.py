"""Mailboxes as people make and change them: over the API, in the console."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry
from projects.models import Project
from tests.projects.conftest import alice, api, foreign, project, signed_in  # noqa: F401
from webhooks.mailbox.manage import MailboxChange, create_mailbox
from webhooks.models.mailbox import Mailbox


@pytest.fixture
def mailbox(project: Project) -> Mailbox:  # noqa: F811
    return create_mailbox(project, "orders", MailboxChange())


# --- What it is told of --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("events", ["domain.created", "nonsense"], "events[1]"),
        ("events", [7], "events[0]"),
        ("tags", ["x" * 65], "tags[0]"),
        ("tags", ["a\nb"], "tags[0]"),
        ("tags", [str(n) for n in range(21)], "tags"),
        ("domains", ["shop.example", "no domain"], "domains[1]"),
        ("domains", ["-.-"], "domains[0]"),
        ("domains", ["a" * 254], "domains[0]"),
        ("domains", [f"d{n}.example" for n in range(21)], "domains"),
    ],
)
def test_a_bad_filter_is_named_as_of_a_webhook(api: Any, mailbox: Mailbox, field: str, value: Any, named: str) -> None:  # noqa: F811
    asked = (
        api.post("/mailboxes", {"name": "new", field: value}),
        api.patch(f"/mailboxes/{mailbox.pk}", {field: value}),
    )
    for status, body in asked:
        assert (status, body["violations"][0]["property"]) == (422, named)
    assert Mailbox.objects.count() == 1


def test_every_bad_filter_is_named(api: Any, mailbox: Mailbox) -> None:  # noqa: F811
    status, body = api.patch(f"/mailboxes/{mailbox.pk}", {"events": ["no"], "tags": ["x" * 65], "domains": ["?"]})
    assert (status, list(body["errors"])) == (422, ["events[0]", "tags[0]", "domains[0]"])


def test_filters_are_kept_each_once_in_their_one_spelling(api: Any, mailbox: Mailbox) -> None:  # noqa: F811
    filled = {"events": ["domain.created"], "tags": ["a", " a", "b"], "domains": ["Bücher.example.", "shop.example"]}
    status, shown = api.patch(f"/mailboxes/{mailbox.pk}", filled)
    assert status == 200
    assert (shown["tags"], shown["domains"]) == (["a", "b"], ["xn--bcher-kva.example", "shop.example"])
    status, shown = api.patch(f"/mailboxes/{mailbox.pk}", {"events": [], "is_enabled": False})
    assert (status, shown["events"], shown["is_enabled"]) == (200, [], False)
    assert AuditEntry.objects.latest("pk").action == "mailbox.disabled"


def test_the_console_reads_filters_between_commas_and_says_what_is_wrong(alice: Any, mailbox: Mailbox) -> None:  # noqa: F811
    browser = Client()
    browser.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    path = f"/console/{mailbox.project_id}/mailboxes/{mailbox.pk}"
    filled = {"events": ["domain.created"], "tags": "gift card, order", "domains": "shop.example"}
    assert browser.post(path, filled).status_code == 302
    mailbox.refresh_from_db()
    assert (mailbox.tags, mailbox.domains) == (["gift card", "order"], ["shop.example"])
    assert 'value="gift card, order"' in browser.get(path).content.decode()
    page = browser.post(path, {**filled, "domains": "shop.example, no domain"})
    assert page.status_code == 400
    assert "not a valid domain" in page.content.decode()
