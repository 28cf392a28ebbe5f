"""Small parts of pages that templates ask for by name: icons, chips, times, sizes, the brand and the theme switch."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.template import Context
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString

from relay_project.db.ids import id_time
from relay_project.web.theme import Theme, chosen_theme

register = template.Library()

# How each state of a recipient, an attempt or a domain looks; whatever is not named is grey.
TONES: Mapping[str, str] = {
    "accepted": "ok",
    "active": "ok",
    "enabled": "ok",
    "ok": "ok",
    "missing": "bad",
    "wrong": "bad",
    "retiring": "later",
    "queued": "wait",
    "pending": "wait",
    "deferred": "later",
    "partial": "later",
    "warning": "later",
    "bounced": "bad",
    "failed": "bad",
    "suspended": "bad",
    "expired": "bad",
    "complained": "alarm",
}
SPRITE = "relay/icons.svg"
LIVE = "relay/live.js"


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """One drawing of the sprite; decoration only, so screen readers skip it."""
    sized = f"icon icon--{size}" if size else "icon"
    return format_html('<svg class="{}" aria-hidden="true"><use href="{}#{}"></use></svg>', sized, static(SPRITE), name)


@register.simple_tag
def chip(state: str, label: str = "") -> SafeString:
    """A state as a dot and a word."""
    return format_html('<span class="chip chip--{}">{}</span>', TONES.get(state, "mute"), label or state)


@register.filter
def tone(state: str) -> str:
    """The class suffix of a state."""
    return TONES.get(state, "mute")


@register.simple_tag
def live_script(project_id: int, send_id: int | None = None) -> SafeString:
    """The script that has a page's parts move with what happens in a project, or to one send; none without a stream."""
    if not settings.LIVE_URL:
        return SafeString("")
    tag = '<script src="{}" defer data-project="{}" data-send="{}"></script>'
    return format_html(tag, static(LIVE), project_id, send_id or "")


@register.inclusion_tag("console/_brand.html")
def brand(href: str = "/console/") -> dict[str, Any]:
    """The mark and the word."""
    return {"href": href}


@register.simple_tag(takes_context=True)
def theme_attribute(context: Context) -> SafeString:
    """`data-theme` for <html>, when the reader chose a theme."""
    theme = _theme_of(context)
    return SafeString("") if theme is Theme.SYSTEM else format_html(' data-theme="{}"', theme.value)


@register.inclusion_tag("console/_theme_switch.html", takes_context=True)
def theme_switch(context: Context) -> dict[str, Any]:
    """A menu of system, light and dark; absent where there is no request (the 500 page)."""
    request = context.get("request")
    return {
        "request": request,
        "chosen": _theme_of(context).value,
        "csrf_token": context.get("csrf_token"),
        "choices": (("system", "As the system", "system"), ("light", "Light", "sun"), ("dark", "Dark", "moon")),
    }


def _theme_of(context: Context) -> Theme:
    request = context.get("request")
    return chosen_theme(request) if isinstance(request, HttpRequest) else Theme.SYSTEM


@register.simple_tag
def moment(at: datetime | None, form: str = "full") -> SafeString:
    """A <time> in UTC: `full` with the date, `clock` with seconds, `short` as lists show it, `ago` in words."""
    if at is None:
        return format_html("{}", "–")
    at = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(timespec="milliseconds"),
        f"{at:%A, %-d %B %Y, %H:%M:%S} UTC",
        _written(at, form, timezone.now()),
    )


def _written(at: datetime, form: str, now: datetime) -> str:
    if form == "clock":
        return f"{at:%H:%M:%S}"
    if form == "ago":
        return in_words(at - now)
    if form == "short" and at.date() == now.date():
        return f"{at:%H:%M}"
    if form == "short":
        return f"{at:%-d %b, %H:%M}" if at.year == now.year else f"{at:%-d %b %Y}"
    return f"{at:%-d %b %Y, %H:%M:%S}"


def in_words(distance: timedelta) -> str:
    """A distance in time as people say it, `in 5 min` or `2 h ago`: whole units, the largest that fits."""
    seconds = round(abs(distance.total_seconds()))
    if seconds < 3:
        return "now" if distance > timedelta() else "just now"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= length:
            amount = f"{seconds // length} {unit}"
            return f"in {amount}" if distance > timedelta() else f"{amount} ago"
    raise AssertionError("three seconds are at least one")


@register.filter
def made_at(identifier: int) -> datetime:
    """The moment inside a time-ordered id."""
    return id_time(identifier)


@register.filter
def octets(size: int | None) -> str:
    """A size for people, in decimal units."""
    if size is None:
        return "–"
    for unit, length in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} bytes"


@register.filter
def milliseconds(duration: float | None) -> str:
    """A duration for people: 12 ms, 1.4 s, 2 min."""
    if duration is None:
        return "–"
    if duration < 1_000:
        return f"{round(duration)} ms"
    return f"{duration / 1_000:.1f} s" if duration < 120_000 else f"{round(duration / 60_000)} min"


@register.filter
def grouped(number: int) -> str:
    """12345 → 12,345."""
    return f"{number:,}"


@register.filter
def lookup(mapping: Mapping[Any, Any], key: object) -> Any:
    """The value of a key that is itself a variable; None when absent."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def query(context: Context, **changes: object) -> str:
    """The current query string with some parameters changed; an empty value takes one out."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            parameters.pop(name, None)
        else:
            parameters[name] = str(value)
    return f"?{parameters.urlencode()}" if parameters else "?"


@register.filter
def marked(text: str) -> SafeString:
    """One line of the API's description: `code` and **strong** as HTML, everything else as it stands."""
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return SafeString(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", shown))


@register.filter
def prose(text: str) -> SafeString:
    """Paragraphs of it."""
    return SafeString("".join(f"<p>{marked(part)}</p>" for part in text.strip().split("\n\n")) if text else "")


@register.filter
def breakable(text: str) -> SafeString:
    """A path or a name that may break before a slash, a dot, an underscore or a dash."""
    return SafeString(re.sub(r"([/._-])", r"<wbr>\1", escape(text)))
