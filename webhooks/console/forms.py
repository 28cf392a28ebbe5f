"""The forms of the webhooks' pages, and what they say of headers: a line for each, values never shown again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms

from projects.event_registry import REGISTRY, kinds_for
from projects.events import EventKind
from webhooks.options import MAX_HEADERS, MAX_NAME, MAX_VALUE
from webhooks.subscriptions import MAX_DESCRIPTION
from webhooks.url import MAX_URL

# Sets that a button ticks.
PRESETS = (
    ("Delivery", tuple(kind for kind in EventKind if kind.startswith("send."))),
    ("Problems", (EventKind.BOUNCED, EventKind.COMPLAINED, EventKind.FAILED, EventKind.SUPPRESSION_CREATED)),
    ("Everything", tuple(EventKind)),
)
HIDDEN = "••••••"  # stands for a value that is there and stays


class Words(forms.CharField):
    """Words with commas between them, as a list."""

    def prepare_value(self, value: object) -> object:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: object) -> list[str]:  # type: ignore[override]
        parts = (super().to_python(value) or "").replace("\n", ",").split(",")
        return [part.strip() for part in parts if part.strip()]


class ToldForm(forms.Form):
    """What somebody is told of: of webhooks and of mailboxes."""

    description = forms.CharField(max_length=MAX_DESCRIPTION, required=False)
    events = forms.MultipleChoiceField(choices=[(kind.value, kind.value) for kind in EventKind], required=False)
    tags = Words(required=False)
    domains = Words(required=False)

    def kinds(self, *, is_system: bool) -> dict[str, object]:
        """What templates/webhooks/_kinds.html shows: each kind, and the sets that a button ticks."""
        chosen = list(self["events"].value() or [])
        rows = [
            {"value": kind.value, "help": REGISTRY[kind].short, "is_checked": kind.value in chosen}
            for kind in kinds_for(is_system)
        ]
        return {"event_rows": rows, "presets": [(name, " ".join(kinds)) for name, kinds in PRESETS]}


class WebhookForm(ToldForm):
    """Where to tell what."""

    url = forms.CharField(max_length=MAX_URL)
    events = forms.MultipleChoiceField(
        choices=[(kind.value, kind.value) for kind in EventKind],
        error_messages={"required": "Choose at least one event."},
    )
    headers = forms.CharField(
        required=False,
        max_length=MAX_HEADERS * (MAX_NAME + MAX_VALUE + 4),
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
    )

    def clean_headers(self) -> dict[str, str | None]:
        """`Name: value` lines; a hidden value stays what it is."""
        found: dict[str, str | None] = {}
        for line in filter(str.strip, self.cleaned_data["headers"].splitlines()):
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not colon:
                raise forms.ValidationError("Write each header on a line of its own, as “Name: value”.")
            if name in found:
                raise forms.ValidationError(f"{name[:MAX_NAME]} is named twice.")
            found[name] = None if value == HIDDEN else value
        return found


class TestForm(forms.Form):
    """Which kind of event to send an example of."""

    event = forms.ChoiceField(required=False)

    def __init__(self, data: Any = None, *, is_system: bool = False) -> None:
        super().__init__(data)
        kinds = [(kind.value, kind.value) for kind in kinds_for(is_system)]
        self.fields["event"].choices = [("", "A short test message"), *kinds]  # type: ignore[attr-defined]


class ReplayForm(forms.Form):
    """What to tell again."""

    begin = forms.DateTimeField(required=False)
    end = forms.DateTimeField(required=False)
    only_failed = forms.BooleanField(required=False)

    def __init__(self, data: Any = None, begin: datetime | None = None) -> None:
        super().__init__(data, prefix="replay", initial={"begin": begin})
        for name in ("begin", "end"):
            self.fields[name].widget = forms.DateTimeInput({"type": "datetime-local", "step": "1"}, "%Y-%m-%dT%H:%M:%S")


def headers_text(headers: Mapping[str, str]) -> str:
    """The headers for the form."""
    return "\n".join(f"{name}: {HIDDEN}" for name in headers)
