# ruff: noqa: F811 — pytest hands fixtures over by name
"""The page that says what a mail would meet."""

import pytest
from django.http import HttpResponse
from django.test import Client

from accounts.models import User
from projects.models import Domain, Membership
from projects.scopes import Scope
from sending.models import Send
from tests.projects.conftest import alice, bob, project, published  # noqa: F401 — fixtures
from tests.sending.api.conftest import domain, instance  # noqa: F401 — fixtures

pytestmark = pytest.mark.django_db

MAIL = {"sender": "Shop <me@shop.example.test>", "to": "dora@example.test, Eve <eve@example.test>", "subject": "Hello"}
RAW = "From: me@shop.example.test\r\nTo: dora@example.test\r\nSubject: Hello\r\n\r\nHi Dora.\r\n"


@pytest.fixture
def page(alice: User, domain: Domain, published: dict[str, list[str]]) -> "Page":
    client = Client()
    client.force_login(alice, backend="accounts.sign_in.PasswordBackend")
    return Page(client, domain.project_id)


class Page:
    def __init__(self, client: Client, project_id: int) -> None:
        self.client = client
        self.address = f"/console/{project_id}/sends/check"

    def check(self, query: str = "", **fields: str) -> HttpResponse:
        return self.client.post(self.address + query, fields)


def found(response: HttpResponse) -> dict[str, str]:
    """What was looked at, with its level."""
    assert response.status_code == 200, response.context["form"].errors
    return {title: finding.level.value for title, finding in response.context["rows"]}


def test_a_mail_that_is_typed_is_looked_at_and_not_sent(page: Page) -> None:
    response = page.check(**MAIL, text="Hi Dora.", html="<p>Hi Dora.</p>")
    levels = found(response)
    assert response.context["report"].accepted
    assert levels["Domain"] == "ok"
    assert levels["DKIM"] == "error"  # nothing is published
    assert next(iter(levels.values())) == "error"  # the worst comes first
    assert "It would be accepted, but hardly arrive" in response.content.decode()
    assert not Send.objects.exists()


def test_a_mail_that_is_pasted_names_its_recipients(page: Page) -> None:
    response = page.check("?pasted", raw="\n" + RAW)
    assert found(response)["Suppression"] == "ok"
    assert response.context["report"].accepted


def test_what_the_rules_refuse_is_a_finding(page: Page) -> None:
    response = page.check(**{**MAIL, "sender": "me@elsewhere.example"}, text="Hi")
    assert found(response)["Domain"] == "error"
    assert "It would not be accepted" in response.content.decode()


@pytest.mark.parametrize(
    ("query", "fields", "field", "said"),
    [
        ("", {**MAIL, "sender": "a@b.example, c@d.example", "text": "x"}, "sender", "A mail has one sender."),
        ("", {**MAIL, "to": "dora", "text": "x"}, "to", "dora is not a valid email address."),
        (
            "",
            {**MAIL, "to": "Dora <dora@example.test>\nBcc: eve@example.test", "text": "x"},
            "to",
            "This has line breaks",
        ),
        ("", {**MAIL, "subject": "a\r\nBcc: eve@example.test", "text": "x"}, "subject", "This has line breaks"),
        ("", MAIL, "text", "Give a text, or HTML, or both."),
        ("?pasted", {"raw": "no header"}, "raw", "It "),
        ("?pasted", {"raw": "From: a@shop.example.test\nSubject: x\n\nHi"}, "raw", "It names no recipient."),
        ("?pasted", {"raw": RAW + "\0"}, "raw", "Null characters are not allowed."),
    ],
)
def test_what_cannot_be_read_is_said_at_its_field(
    page: Page, query: str, fields: dict[str, str], field: str, said: str
) -> None:
    response = page.check(query, **fields)
    assert response.status_code == 400
    assert response.context["form"].errors[field][0].startswith(said)


def test_it_counts_as_a_request(page: Page, settings: object) -> None:
    settings.SESSION_REQUESTS_PER_MINUTE = 1  # type: ignore[attr-defined]
    assert page.check(**MAIL, text="Hi").status_code == 200
    refused = page.check(**MAIL, text="Hi")
    assert refused.status_code == 400
    assert "rate limit" in str(refused.context["form"].non_field_errors()).lower()


def test_only_who_may_send_sees_it(page: Page, bob: User) -> None:
    sends = page.address.removesuffix("/check")
    assert page.address in page.client.get(sends).content.decode()
    page.client.force_login(bob, backend="accounts.sign_in.PasswordBackend")
    Membership.objects.filter(user=bob).update(scopes=[Scope.SENDS_READ.value, Scope.PROJECT_READ.value])
    assert page.client.get(page.address).status_code == 403
    assert page.address not in page.client.get(sends).content.decode()
