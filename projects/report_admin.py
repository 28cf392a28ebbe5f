"""Staff admin: what receivers and senders report of domains."""

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from projects.models import DomainReport, DomainReportKind
from relay_project.web.staff import Facts, column

_SOURCE = ("address", "messages", "aligned", "dkim", "spf", "is_ours", "signers", "reasons")
_FAILURE = ("type", "mx", "sessions", "reason")


@admin.register(DomainReport)
class DomainReportAdmin(Facts):
    """DMARC and TLS reports that came in by mail, of all projects and of the instance domain."""

    list_display = ("domain", "kind", "organisation", "begins_at", "total", "share", "received_at")
    list_filter = ("kind",)
    search_fields = ("=domain", "=organisation")
    search_help_text = "Exact domain, or organisation"
    ordering = ("-received_at",)
    secret = ("details",)  # shown as a table
    computed = ("share", "told")

    @column("passed")
    def share(self, report: DomainReport) -> str:
        """Of its messages or sessions."""
        return f"{report.passed / report.total:.1%}" if report.total else "–"

    @column("in detail")
    def told(self, report: DomainReport) -> str | SafeString:
        """Sources of messages, or kinds of failures."""
        if not report.details:
            return "–"
        names = _SOURCE if report.kind == DomainReportKind.DMARC else _FAILURE
        rows = format_html_join(
            "", "<tr>{}</tr>", ((_cells(detail, names),) for detail in report.details if isinstance(detail, dict))
        )
        head = format_html_join("", "<th>{}</th>", ((name.replace("_", " "),) for name in names))
        return format_html('<table class="relay-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>', head, rows)


def _cells(detail: dict[str, object], names: tuple[str, ...]) -> SafeString:
    return format_html_join("", "<td>{}</td>", ((_text(detail.get(name, "")),) for name in names))


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
