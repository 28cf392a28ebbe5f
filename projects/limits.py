"""How much a project may do: the instance's numbers (settings), or its own where staff have set some.

They lie in the project's row, which authentication reads anyway. Every setting is a default, not a bound: a project's own
number may be lower or higher, up to what the product itself can carry (MOST).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.db import transaction

from projects.access import Caller, record_by
from projects.models import ApiKey, Project
from relay_project.db.rates import Caps, Spent, Window, read_meter
from relay_project.web.errors import Violation, Violations

MEBIBYTE = 1024 * 1024
MOST_RECIPIENTS = 1000  # of one send, as RFC 5321 §4.5.3.1.8 lets servers stop at 100 and hardly any at less than this


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a project. `sends_per_hour` and `sends_per_day`: 0 is no limit."""

    requests_per_minute: int  # of an API key, but for sending
    session_requests_per_minute: int  # of a person
    sends_per_second: int  # by API keys
    sends_per_hour: int
    sends_per_day: int
    recipients_per_send: int
    message_bytes: int

    @property
    def sends(self) -> Caps:
        """What one project's meter is held against."""
        return {
            Window.SECOND: self.sends_per_second,
            Window.HOUR: self.sends_per_hour or None,
            Window.DAY: self.sends_per_day or None,
        }

    @property
    def session_sends(self) -> Caps:
        """For mail that a person sends by hand: the pace is that of their requests."""
        return {Window.HOUR: self.sends_per_hour or None, Window.DAY: self.sends_per_day or None}


NAMES = tuple(field.name for field in fields(Limits))
MAY_BE_NONE = frozenset({"sends_per_hour", "sends_per_day"})
_SETTING = MappingProxyType(
    {
        "recipients_per_send": "MAX_RECIPIENTS",
        "message_bytes": "MAX_MESSAGE_BYTES",
    }
)


def limits_of(project: Project) -> Limits:
    """What holds for a project; no statement."""
    return Limits(
        _first(project.requests_per_minute, settings.REQUESTS_PER_MINUTE),
        _first(project.session_requests_per_minute, settings.SESSION_REQUESTS_PER_MINUTE),
        _first(project.sends_per_second, settings.SENDS_PER_SECOND),
        _first(project.sends_per_hour, settings.SENDS_PER_HOUR),
        _first(project.sends_per_day, settings.SENDS_PER_DAY),
        recipients_per_send(project),
        message_bytes(project),
    )


def recipients_per_send(project: Project) -> int:
    """Of these limits alone, for where mails are counted in thousands a second."""
    return _first(project.recipients_per_send, settings.MAX_RECIPIENTS)


def message_bytes(project: Project) -> int:
    """The same of the size."""
    return _first(project.message_bytes, settings.MAX_MESSAGE_BYTES)


def in_units(octets: int) -> str:
    """`10MB`, as the contract writes it; `1536KB`, `1000 bytes` for what is not whole."""
    for unit, name in ((MEBIBYTE, "MB"), (1024, "KB")):
        if octets % unit == 0:
            return f"{octets // unit}{name}"
    return f"{octets} bytes"


def _first(own: int | None, default: int) -> int:
    return default if own is None else own


def default_of(name: str) -> int:
    """The instance's number."""
    number: int = getattr(settings, _SETTING.get(name, name.upper()))
    return number


def bounds_of(name: str) -> tuple[int, int]:
    """The least and the most that a project's own number may be."""
    least = 0 if name in MAY_BE_NONE else 1
    most = {
        "sends_per_hour": 10**9,
        "sends_per_day": 10**9,
        "recipients_per_send": MOST_RECIPIENTS,
        "message_bytes": settings.MAX_REQUEST_BYTES,  # nothing larger comes in
    }.get(name, 10**6)
    return least, most


def set_limits(project: Project, limits: Mapping[str, int | None], caller: Caller | None = None) -> Project:
    """Staff give a project its own numbers (None: the instance's again); what is not named stays. Raises Violations (422).

    They hold from the next request on.
    """
    check_limits(limits)
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        changed = {name: value for name, value in limits.items() if getattr(project, name) != value}
        if not changed:
            return project
        was = {name: getattr(project, name) for name in changed}
        for name, value in changed.items():
            setattr(project, name, value)
        project.save(update_fields=list(changed))
        record_by(caller, "project.limits_set", project, project, limits=changed, was=was)
    return project


def check_limits(limits: Mapping[str, int | None]) -> None:
    """Raises Violations (422) that name each limit that there is not, or that is out of its bounds."""
    wrong = []
    for name, value in limits.items():
        if name not in NAMES:
            wrong.append(Violation(name[:64], "There is no such limit."))
        elif value is not None and not bounds_of(name)[0] <= value <= bounds_of(name)[1]:
            wrong.append(Violation(name, "This value should be between {} and {}.".format(*bounds_of(name))))
    if wrong:
        raise Violations(wrong)


# --- Present use -----------------------------------------------------------------------------------------------------


def sends_meter(project: Project) -> str:
    """The subject of a project's sends in the meters."""
    return f"sends {project.pk}"


def key_meter(key: ApiKey) -> str:
    """The subject of a key's requests."""
    return f"key {key.pk}"


def person_meter(user_id: int, project: Project | None) -> str:
    """The subject of a person's requests: one for all projects, but for those that have a number of their own."""
    is_own = project is not None and project.session_requests_per_minute is not None
    return f"person {user_id} in {project.pk}" if project is not None and is_own else f"person {user_id}"


def token_meter(user_id: int, project: Project | None) -> str:
    """The subject of the requests of programs that come with a person's access tokens."""
    return f"tokens of {user_id} in {project.pk if project is not None else 0}"


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a limit (0: there is none) is used, and when that begins anew."""

    name: str
    used: int
    limit: int
    reset_seconds: int

    @property
    def percent(self) -> int:
        """For a bar; 0 without a limit."""
        return min(100, self.used * 100 // self.limit) if self.limit else 0


def sends_used(project: Project, now: datetime) -> list[Used]:
    """What a project has sent in this hour and this day, one statement."""
    limits = limits_of(project)
    spent = read_meter(sends_meter(project), limits.sends, now)
    return [
        _used("sends_per_hour", limits.sends_per_hour, spent, Window.HOUR),
        _used("sends_per_day", limits.sends_per_day, spent, Window.DAY),
    ]


def requests_used(caller: Caller, project: Project, now: datetime) -> Used:
    """What the caller has asked in this minute, one statement."""
    limits = limits_of(project)
    if caller.api_key is not None:
        name, limit, subject = "requests_per_minute", limits.requests_per_minute, key_meter(caller.api_key)
    else:
        assert caller.user is not None
        name, limit = "session_requests_per_minute", limits.session_requests_per_minute
        subject = person_meter(caller.user.pk, project)
    return _used(name, limit, read_meter(subject, {Window.MINUTE: limit}, now), Window.MINUTE)


def _used(name: str, limit: int, spent: Spent, window: Window) -> Used:
    return Used(name, spent.used[window], limit, spent.reset_seconds(window))


def limits_object(project: Project, used: list[Used]) -> dict[str, Any]:
    """Limits and present use, as plain values for JSON; a limit that there is not is null."""
    limits = {name: value or None for name, value in asdict(limits_of(project)).items()}
    return {
        "limits": limits,
        "use": {one.name: {"used": one.used, "reset_seconds": one.reset_seconds} for one in used},
    }
