"""Staff admin: roll-ups of what was sent, their readers, and the texts that searches use."""

from django.contrib import admin

from relay_project.db.ids import id_time
from relay_project.web.staff import Facts, Happened, column
from sending.models import DayCount, HourCount, ReaderPosition, SearchText

FIGURES = ("total", "accepted", "deferred", "bounced", "complained", "failed", "suppressed", "cancelled")


class Counts(Facts):
    """Recipients by where they stand. Project 0 is the whole installation."""

    list_filter = ("dimension",)
    search_fields = ("=project_id", "=key")
    search_help_text = "A project's id (0: all), or a key: a domain, a provider, a tag, an id"


@admin.register(HourCount)
class HourCountAdmin(Counts):
    """By the hour of the accept."""

    list_display = ("hour", "project_id", "dimension", "key", *FIGURES)
    ordering = ("-hour", "project_id", "dimension", "key")


@admin.register(DayCount)
class DayCountAdmin(Counts):
    """By the day of the accept."""

    list_display = ("day", "project_id", "dimension", "key", *FIGURES)
    ordering = ("-day", "project_id", "dimension", "key")


@admin.register(ReaderPosition)
class ReaderPositionAdmin(Facts):
    """How far the readers of the event log have come."""

    list_display = ("name", "position", "moved_at")


@admin.register(SearchText)
class SearchTextAdmin(Happened):
    """What mail is searched by."""

    list_display = ("send_id", "accepted_at", "from_text", "subject_text")
    ordering = ("-send_id",)

    @column("accepted", ordering="send_id")
    def accepted_at(self, row: SearchText) -> str:
        """The moment that the send's id carries."""
        return f"{id_time(row.send_id):%Y-%m-%d %H:%M:%S}"
