"""Staff admin: what retention removed."""

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from relay_project.models import RetentionRun
from relay_project.web.staff import Facts, column


@admin.register(RetentionRun)
class RetentionRunAdmin(Facts):
    """Runs of retention, one an hour."""

    secret = ("kept_back", "size_bytes")  # shown in words
    computed = ("state", "freed", "stays")
    list_display = ("started_at", "state", "partitions", "freed", "rows", "days_kept_back")
    list_display_links = ("started_at",)

    @column("state", label={"done": "success", "failed": "danger", "under way": "info"})
    def state(self, run: RetentionRun) -> str:
        """How it ended."""
        return "failed" if run.error else "done" if run.finished_at else "under way"

    @column("freed")
    def freed(self, run: RetentionRun) -> str:
        """What the dropped days took."""
        return filesizeformat(run.size_bytes) if run.size_bytes else "–"

    @column("kept back")
    def days_kept_back(self, run: RetentionRun) -> str:
        """How many tables' days were due and stayed."""
        return str(len(run.kept_back)) if run.kept_back else "–"

    @column("kept back")
    def stays(self, run: RetentionRun) -> str | SafeString:
        """Which, and why."""
        lines = ((one.get("partition", ""), one.get("reason", "")) for one in run.kept_back)
        return format_html_join("", "<div>{}: {}</div>", lines) or "–"
