"""Mailboxes as people make and change them: over the API, in the console, and what they are told by mail."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry
from projects.models import Notice, Project
from tests.projects.conftest import alice, api, foreign, project, signed_in  # noqa: F401
from webhooks.mailbox.deposit import deposit, new_item
from webhooks.mailbox.holding import holding_of
from webhooks.mailbox.manage import MailboxChange, create_mailbox, delete_mailbox
from webhooks.models.mailbox import Mailbox

NOW = datetime.now(UTC)


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


def test_a_kind_that_only_the_operator_is_told_of_is_refused_with_the_reason(api: Any, mailbox: Mailbox) -> None:  # noqa: F811
    status, body = api.patch(f"/mailboxes/{mailbox.pk}", {"events": ["incident.closed"]})
    assert (status, body["message"]) == (422, "events[0]: Only the system project is told of this.")


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


# --- Notices -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fill(mailbox: Mailbox, settings: Any) -> Callable[..., bool]:
    settings.MAILBOX_MAX_ITEMS = 10
    counted = iter(range(1000))

    def put(count: int) -> bool:
        """Whether so many were taken."""
        return deposit(mailbox.pk, "shop", [new_item(next(counted)) for _ in range(count)], NOW) is not None

    return put


def test_its_people_are_told_when_it_is_nearly_full_and_when_deposits_are_refused(
    fill: Callable[..., bool],
    project: Project,  # noqa: F811
) -> None:
    assert fill(7)
    assert not Notice.objects.exists()
    assert fill(2)
    notice = Notice.objects.get()
    assert (notice.project_id, notice.scope) == (project.pk, "webhooks.write")
    assert "9 of 10" in notice.text
    assert not fill(2)
    assert not fill(2)
    assert "refused" in Notice.objects.order_by("-id")[0].text
    assert fill(1)
    assert not fill(1)
    assert Notice.objects.count() == 2, "each once in a day"


def test_octets_fill_a_mailbox_as_well(fill: Callable[..., bool], mailbox: Mailbox, settings: Any) -> None:
    """Ten thousand payloads of the largest size would be gigabytes, of each of a project's mailboxes."""
    settings.MAILBOX_MAX_BYTES = 10
    assert fill(7)  # of an octet each
    assert deposit(mailbox.pk, "shop", [new_item("a long one")], NOW) is None
    assert fill(3), "what was refused took no room"
    assert "10 bytes of 10 bytes" in Notice.objects.order_by("-id")[0].text
    holding = holding_of(mailbox, NOW)
    assert (holding.load, holding.is_full) == ((10, 10), True)


def test_a_mailbox_filled_at_once_is_told_of_once(fill: Callable[..., bool]) -> None:
    assert fill(10)
    assert Notice.objects.count() == 1
    assert not fill(1)
    assert Notice.objects.count() == 2


def test_nobody_is_told_where_notices_are_switched_off(fill: Callable[..., bool], settings: Any) -> None:
    settings.NOTICES = False
    assert fill(10)
    assert not fill(1)
    assert not Notice.objects.exists()


def test_a_deposit_to_a_mailbox_that_is_gone_tells_nobody(fill: Callable[..., bool], mailbox: Mailbox) -> None:
    delete_mailbox(mailbox)
    mailbox.pk = 0
    assert not fill(1)
    assert not Notice.objects.exists()
    assert AuditEntry.objects.count() == 0
