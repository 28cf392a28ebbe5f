"""Staff's parser page: a mail is pasted or uploaded, and it shows what `parse_report()` makes of it. Nothing is kept."""

import json
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods

from relay_project.mail.reports.facts import DmarcReport, Feedback, TlsReport
from relay_project.mail.reports.message import MAX_PACKED_OCTETS
from relay_project.mail.reports.model import Original, Report
from relay_project.mail.reports.parse import parse_report
from relay_project.mail.reports.shown import report_object
from relay_project.mail.text import clean

MAX_PASTED = 1 << 20  # characters; what is larger is uploaded
MAX_ROWS = 50  # of a DMARC or TLS report that are shown
MIB = 1 << 20
NEITHER = "Paste a mail, or choose a file."
TOO_LARGE = f"That is more than {MAX_PACKED_OCTETS // MIB} MiB. No report is as large."

Facts = list[tuple[str, object]]


class MailForm(forms.Form):
    """A mail with its header, as text or as a file."""

    mail = forms.CharField(max_length=MAX_PASTED, required=False, strip=False)
    file = forms.FileField(required=False, allow_empty_file=True)

    def clean(self) -> dict[str, Any]:
        """Either of the two; the file goes first."""
        values: dict[str, Any] = super().clean() or {}
        file = values.get("file")
        if file is not None and file.size > MAX_PACKED_OCTETS:
            raise forms.ValidationError(TOO_LARGE)
        if file is None and not values.get("mail", "").strip() and not self.errors:
            raise forms.ValidationError(NEITHER)
        return values

    def octets(self) -> bytes:
        """What is to be read."""
        file = self.cleaned_data.get("file")
        return bytes(file.read()) if file is not None else self.cleaned_data["mail"].encode("utf-8", "replace")


def parser_page(site: AdminSite) -> URLPattern:
    """Its URL, for an admin of this app."""
    view: URLPattern = path("parser/", site.admin_view(_page_of(site)), name="report_parser_changelist")
    return view


def _page_of(site: AdminSite) -> Any:
    @require_http_methods(["GET", "HEAD", "POST"])
    def page(request: HttpRequest) -> HttpResponse:
        form = MailForm(request.POST, request.FILES) if request.method == "POST" else MailForm()
        context: dict[str, Any] = {**site.each_context(request), "title": "Parse a report", "form": form}
        if form.is_bound and form.is_valid():
            context |= _shown(parse_report(form.octets()))
        trouble = [str(error) for errors in form.errors.values() for error in errors] if form.is_bound else []
        context |= {"refusal": " ".join(trouble), "max_pasted": MAX_PASTED}
        return TemplateResponse(request, "admin/parser.html", context, status=400 if trouble else 200)

    return page


def _shown(report: Report) -> dict[str, Any]:
    """What the page shows of a report: texts that come from the mail are cut and clean, and the template escapes them."""
    said = report_object(report)
    return {
        "report": report,
        "said": said,
        "printed": json.dumps(said, ensure_ascii=False, indent=2),
        "original": _original(report.original),
        "facts": _feedback(report.feedback) + _dmarc(report.dmarc_report) + _tls(report.tls_report),
        "rows": report.dmarc_report.rows[:MAX_ROWS] if report.dmarc_report else (),
        "policies": report.tls_report.policies[:MAX_ROWS] if report.tls_report else (),
    }


def _original(original: Original) -> Facts:
    facts: Facts = [
        ("Return path", original.return_path),
        ("Tokens", ", ".join(original.tokens)),
        ("Message-ID", original.message_id),
        ("Envelope id", original.envelope_id),
        ("Recipients", ", ".join(original.recipients)),
        ("Subject", original.subject),
        ("Date", original.date),
    ]
    return [(name, clean(str(value), 500)) for name, value in facts if value]


def _feedback(feedback: Feedback | None) -> Facts:
    if feedback is None:
        return []
    facts: Facts = [
        ("Feedback type", feedback.type.value),
        ("Who reports", feedback.user_agent),
        ("Source IP", feedback.source_ip),
        ("Authentication failure", feedback.auth_failure),
        ("Recipient", "hidden" if feedback.is_redacted else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _dmarc(report: DmarcReport | None) -> Facts:
    if report is None:
        return []
    messages = sum(row.messages for row in report.rows)
    aligned = sum(row.messages for row in report.rows if row.is_aligned)
    return [
        *_span(report),
        ("Domain", report.domain),
        ("Policy", report.policy),
        ("Messages", f"{messages:,}, {aligned:,} aligned"),
    ]


def _tls(report: TlsReport | None) -> Facts:
    return _span(report) if report is not None else []


def _span(report: DmarcReport | TlsReport) -> Facts:
    return [
        ("Who reports", report.organisation),
        ("Report id", report.report_id),
        ("From", f"{report.begins_at:%-d %b %Y %H:%M} UTC"),
        ("To", f"{report.ends_at:%-d %b %Y %H:%M} UTC"),
    ]
