"""A project's limits and their use, as lines of its settings page."""

from datetime import datetime, timedelta

from projects.limits import Used, in_units, limits_of, sends_used
from projects.models import Project
from relay_project.templatetags.relay import grouped, in_words

WORDS = {"sends_per_hour": "hour", "sends_per_day": "day"}


def limit_lines(project: Project, now: datetime) -> list[tuple[str, str, str]]:
    """(what, how much, what of it is used) of each limit."""
    limits = limits_of(project)
    asked = f"{grouped(limits.requests_per_minute)} a minute by each key"
    return [
        ("Messages", f"{grouped(limits.sends_per_second)} a second by API keys", ""),
        *(_of_window(used) for used in sends_used(project, now)),
        ("Recipients", f"{grouped(limits.recipients_per_send)} of one message", ""),
        ("Size", f"{in_units(limits.message_bytes)} of one message", ""),
        (
            "Requests",
            f"{asked}, {grouped(limits.session_requests_per_minute)} by each person",
            "of the API, but for sending",
        ),
    ]


def _of_window(used: Used) -> tuple[str, str, str]:
    window = WORDS[used.name]
    most = f"{grouped(used.limit)} messages" if used.limit else "no limit"
    again = f"; the {window} ends {in_words(timedelta(seconds=used.reset_seconds))}" if used.limit else ""
    return f"In an {window}" if window == "hour" else f"In a {window}", most, f"{grouped(used.used)} used{again}"
