"""Counting what callers of the API do against their limits: each request, and each mail of a call that sends.

The contract's order: authentication, rate, idempotency, validation. So a refusal by 401 or 403 counts nothing and tells no
numbers, one by 422 has counted, and a 429 is never an idempotent answer. One statement a request, committed by itself
before anything else is done; never called in the transaction that it limits.
"""

from collections.abc import Sequence

from django.http import HttpRequest

from projects.access import Caller
from projects.limit_events import tell_of_limit
from projects.limits import Limits, key_meter, limits_of, person_meter, sends_meter, token_meter
from projects.models import Project
from relay_project.db.rates import Spent, Window, spend, spend_each
from relay_project.metrics import Counter
from relay_project.web.errors import ApiError
from relay_project.web.rate_headers import tell_rate

LIMITED = Counter("relay_rate_limited_total", "Requests of the API refused by a rate limit, by the limit.", ["limit"])


def use_request(request: HttpRequest, caller: Caller) -> None:
    """Count a request that sends nothing: of the key, the person or the program with their token. Raises ApiError 429."""
    limits = limits_of(caller.project or _NOWHERE)
    if caller.api_key is not None:
        name, limit, subject = "requests_per_minute", limits.requests_per_minute, key_meter(caller.api_key)
    elif caller.by_token and caller.user is not None:  # a program, like one with a key
        name, limit = "requests_per_minute", limits.requests_per_minute
        subject = token_meter(caller.user.pk, caller.project)
    else:
        assert caller.user is not None
        name, limit = "session_requests_per_minute", limits.session_requests_per_minute
        subject = person_meter(caller.user.pk, caller.project)
    spent = spend(subject, 1, {Window.MINUTE: limit})
    _tell(request, spent, Window.MINUTE)
    if spent.refused is not None:
        raise _too_many(caller.project, name, spent)


def use_sends(request: HttpRequest, caller: Caller, cost: int = 1) -> None:
    """Count a call that brings `cost` messages, against its project's limits. Raises ApiError 429, or 400 for more
    messages than an hour or a day ever allows.

    A person's call is one of their requests as well, and has their pace.
    """
    project = caller.project
    assert project is not None  # whoever sends is in one
    limits = limits_of(project)
    is_session = caller.api_key is None and not caller.by_token
    if is_session:
        use_request(request, caller)
    _check_fits(limits, cost)
    spent = spend(sends_meter(project), cost, limits.session_sends if is_session else limits.sends)
    if not is_session or spent.refused is not None:
        _tell(request, spent, spent.refused or Window.SECOND)
    if spent.refused is not None:
        raise _too_many(project, f"sends_per_{spent.refused}", spent)


def use_sends_each(callers: Sequence[Caller]) -> list[ApiError | None]:
    """Count one message of each, of callers with keys whose messages came at once (SMTP); the refusal of who has no room."""
    projects = [caller.project for caller in callers if caller.project is not None]  # a key has one
    spent = spend_each([(sends_meter(project), 1, limits_of(project).sends) for project in projects])
    return [
        None if one.refused is None else _too_many(project, f"sends_per_{one.refused}", one)
        for one, project in zip(spent, projects, strict=True)
    ]


_NOWHERE = Project()  # at organisation level the instance's numbers hold


def _check_fits(limits: Limits, cost: int) -> None:
    for window, most in (("hour", limits.sends_per_hour), ("day", limits.sends_per_day)):
        if most and cost > most:
            message = f"One call with {cost} messages is more than this project's limit of {most} per {window}."
            raise ApiError(400, message)


def _tell(request: HttpRequest, spent: Spent, window: Window) -> None:
    tell_rate(request, spent.caps[window] or 0, spent.remaining(window), spent.reset_seconds(window))


def _too_many(project: Project | None, limit: str, spent: Spent) -> ApiError:
    """The refusal, counted, and once in a while an event."""
    LIMITED.labels(limit).inc()
    window = spent.refused
    assert window is not None
    count, seconds = spent.caps[window] or 0, spent.reset_seconds(window)
    if project is not None:
        tell_of_limit(project, limit, count, window, spent.at, spent.at + seconds)
    is_long = window in (Window.HOUR, Window.DAY)
    which = f" This project may send {count} messages per {window}." if is_long else ""
    message = f"Rate limit exceeded.{which} Please try again later in {seconds} seconds."
    return ApiError(429, message, headers={"Retry-After": str(seconds)})
