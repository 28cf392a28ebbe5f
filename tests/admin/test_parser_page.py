"""Staff's parser page says of a mail what the command says, keeps nothing, and shows it as text."""

import gzip
import html
import json
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.urls import reverse

from accounts.models import AuditEntry, User
from projects.models import DomainReport
from relay_project.admin_site import menu
from relay_project.mail.reports.parse import parse_report
from relay_project.mail.reports.shown import report_object
from sending.models import InboundMail
from tests.mail.reports.mails import bomb, dmarc_mail, tls_mail

CORPUS = Path(__file__).parents[1] / "mail" / "reports" / "corpus"
COMPLAINT = (CORPUS / "arf" / "rfc5965.eml").read_bytes()
DMARC = dmarc_mail(gzip.compress((CORPUS / "dmarc" / "rfc7489.xml").read_bytes()), "application/gzip")
TLS = tls_mail(gzip.compress((CORPUS / "tls" / "rfc8460.json").read_bytes()))


def url() -> str:
    return reverse("admin:report_parser_changelist")


def parsed(client: Client, octets: bytes, status: int = 200) -> str:
    answer = client.post(url(), {"file": SimpleUploadedFile("a.eml", octets)})
    assert answer.status_code == status
    return answer.content.decode()


def test_a_pasted_complaint_is_shown_in_the_words_of_the_command(staff_client: Client) -> None:
    page = staff_client.post(url(), {"mail": COMPLAINT.decode()}).content.decode()

    assert "<strong>complaint</strong>" in page
    assert "user@isp.test" in page
    printed = json.dumps(report_object(parse_report(COMPLAINT)), ensure_ascii=False, indent=2)
    assert html.escape(printed) in page.replace("&#x27;", "'")
    assert "0197-offer@shop.test" in page


@pytest.mark.parametrize(
    ("octets", "kind", "says"), [(DMARC, "dmarc-report", "198.51.100.3"), (TLS, "tls-report", "certificate-expired")]
)
def test_an_uploaded_report_about_a_domain_is_shown(staff_client: Client, octets: bytes, kind: str, says: str) -> None:
    page = parsed(staff_client, octets)

    assert f"<strong>{kind}</strong>" in page
    assert says in page


def test_nothing_is_kept_and_nothing_runs(staff_client: Client) -> None:
    before = AuditEntry.objects.count()
    hostile = COMPLAINT.replace(b"user@isp.test", b"<script>alert(1)</script>@x.test").replace(
        b"Autumn", b"<img src=x>"
    )

    page = parsed(staff_client, hostile)

    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    assert not InboundMail.objects.exists()
    assert not DomainReport.objects.exists()
    assert AuditEntry.objects.count() == before


@pytest.mark.parametrize(
    "octets", [b"", b"\x00\xff" * 500, dmarc_mail(bomb(20 << 20)), b"Subject: =?utf-8?q?=00?=\n\n\x00"]
)
def test_whatever_is_uploaded_it_is_no_error(staff_client: Client, octets: bytes) -> None:
    assert "<h2>What it says</h2>" in parsed(staff_client, octets)


def test_what_is_missing_or_too_much_is_refused(staff_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = staff_client.post(url(), {"mail": "  "})
    assert (empty.status_code, "Paste a mail, or choose a file." in empty.content.decode()) == (400, True)
    assert staff_client.post(url(), {"mail": "x" * (1 << 20) + "x"}).status_code == 400
    assert staff_client.post(url(), {"mail": "a\0b"}).status_code == 400
    monkeypatch.setattr("sending.parser_page.MAX_PACKED_OCTETS", 100)
    assert "No report is as large." in parsed(staff_client, COMPLAINT, 400)


def test_it_is_for_staff_alone(bob: User) -> None:
    client = Client()
    client.force_login(bob)
    assert client.get(url()).status_code in (302, 403)
    assert client.post(url(), {"mail": COMPLAINT.decode()}).status_code in (302, 403)


def test_the_menu_marks_the_page_and_not_the_list_above_it(staff_client: Client) -> None:
    request = RequestFactory().get(url())
    assert [item["title"] for group in menu(request) for item in group["items"] if item["active"]] == ["Parse a report"]
    request = RequestFactory().get(reverse("admin:sending_inboundmail_changelist") + "7/change/")
    assert [item["title"] for group in menu(request) for item in group["items"] if item["active"]] == [
        "Mail that came in"
    ]
    request = RequestFactory().get(reverse("admin:index"))
    assert [item["title"] for group in menu(request) for item in group["items"] if item["active"]] == ["Overview"]
