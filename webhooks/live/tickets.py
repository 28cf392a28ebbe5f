"""Who may read a project's stream: asked when it is opened, and again every half minute while it runs."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from accounts.models import User
from projects.access import ARCHIVED, Caller
from projects.authentication import caller_of
from projects.models import ApiKey, Membership, Project
from projects.scopes import STAFF_SCOPES
from relay_project.web.errors import ApiError
from webhooks.live.asked import Asked
from webhooks.live.frames import Ending
from webhooks.live.rights import READING, may_see, scope_of
from webhooks.live.tokens import BadToken, Grant, read_token

BY_TOKEN_LIFETIME = timedelta(hours=1)  # an access token's own end is not known later: its owner comes with a new one
ENDED = {
    "key": Ending(4401, "The API key was revoked, or has expired."),
    "session": Ending(4401, "You have signed out."),
    "member": Ending(4403, "You do not have access to this project."),
    "archived": Ending(4403, ARCHIVED),
    "suspended": Ending(4403, "This project is suspended."),
    "lifetime": Ending(4401, "Come again with a new access token."),
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """Somebody inside a project, by what they showed; `most` are the scopes that a token allows at most."""

    project_id: int
    most: frozenset[str] | None
    user_id: int | None = None
    api_key_id: int | None = None
    session_key: str | None = None
    ends_at: datetime | None = None

    @property
    def log_context(self) -> dict[str, int]:
        """Ids for the log; never what was shown."""
        context = {"project_id": self.project_id, "user_id": self.user_id, "api_key_id": self.api_key_id}
        return {name: value for name, value in context.items() if value is not None}


def admit(asked: Asked, now: datetime) -> tuple[Ticket, frozenset[str]]:
    """The ticket and the scopes of a request; raises ApiError 401, 403 or 429."""
    ticket = _by_grant(asked.token, now) if asked.token is not None else _by_header_or_session(asked, now)
    scopes = standing([ticket], now)[ticket]
    if isinstance(scopes, Ending):
        raise ApiError(scopes.code - 4000, scopes.reason)
    _check_kinds(asked.kinds, scopes)
    return ticket, scopes


def _by_grant(token: str, now: datetime) -> Ticket:
    try:
        grant = read_token(token, now)
    except BadToken:
        raise ApiError(401, "The token is invalid or has expired: ask for another.") from None
    return _ticket(grant, now)


def _ticket(grant: Grant, now: datetime) -> Ticket:
    ends_at = now + BY_TOKEN_LIFETIME if grant.by_token else None
    return Ticket(grant.project_id, grant.scopes, grant.user_id, grant.api_key_id, grant.session_key, ends_at)


def _by_header_or_session(asked: Asked, now: datetime) -> Ticket:
    """By the rules of the API itself, for a request that only reads."""
    request = HttpRequest()
    request.method = "GET"
    request.META = {"REMOTE_ADDR": asked.address, "HTTP_HOST": asked.host}
    given = {
        "HTTP_AUTHORIZATION": asked.authorization,
        "HTTP_X_PROJECT_ID": asked.project_id,
        "HTTP_X_ORGANIZATION_ID": asked.organisation_id,
    }
    request.META |= {name: value for name, value in given.items() if value}
    if asked.authorization is None:
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(asked.session_key)
        request.user = get_user(request)
    caller: Caller = caller_of(request)
    assert caller.project is not None
    session_key = asked.session_key if asked.authorization is None else None
    key_id = caller.api_key.pk if caller.api_key else None
    most = caller.scopes if caller.by_token else None
    ends_at = now + BY_TOKEN_LIFETIME if caller.by_token else None
    return Ticket(caller.project.pk, most, caller.user.pk if caller.user else None, key_id, session_key, ends_at)


def _check_kinds(kinds: Collection[str] | None, scopes: frozenset[str]) -> None:
    if not scopes & READING:
        raise ApiError(403, "You do not have any scope that reads events.")
    for kind in sorted(kinds or ()):
        if not may_see(kind, scopes):
            raise ApiError(403, f"You do not have the required scope '{scope_of(kind)}' to access this resource.")


def standing(tickets: Collection[Ticket], now: datetime | None = None) -> dict[Ticket, frozenset[str] | Ending]:
    """What each ticket gives at this moment: its scopes, or why it gives nothing any more. Five queries for all of them."""
    now = now or datetime.now(UTC)
    there = _Standing(tickets, now)
    return {ticket: there.of(ticket) for ticket in tickets}


class _Standing:
    """What the database says of some tickets."""

    def __init__(self, tickets: Collection[Ticket], now: datetime) -> None:
        self._now = now
        self._projects = Project.objects.only("archived_at", "suspended_at", "suspend_reason").in_bulk(
            _ids(ticket.project_id for ticket in tickets)
        )
        self._keys = ApiKey.objects.in_bulk(_ids(ticket.api_key_id for ticket in tickets))
        self._users = User.objects.in_bulk(_ids(ticket.user_id for ticket in tickets))
        self._members = _memberships(self._users, self._projects)
        self._sessions = _sessions({ticket.session_key for ticket in tickets if ticket.session_key}, now)

    def of(self, ticket: Ticket) -> frozenset[str] | Ending:
        project = self._projects.get(ticket.project_id)
        if project is None:
            return ENDED["member"]
        if ticket.ends_at is not None and ticket.ends_at <= self._now:
            return ENDED["lifetime"]
        given = self._of_key(ticket) if ticket.api_key_id is not None else self._of_person(ticket)
        if isinstance(given, Ending):
            return given
        if project.archived_at is not None:
            return ENDED["archived"]
        if project.suspended_at is not None:
            return ENDED["suspended"]
        return given if ticket.most is None else given & ticket.most

    def _of_key(self, ticket: Ticket) -> frozenset[str] | Ending:
        key = self._keys.get(ticket.api_key_id or 0)
        gone = key is None or not key.is_enabled or (key.expires_at is not None and key.expires_at <= self._now)
        if key is None or gone or key.project_id != ticket.project_id:
            return ENDED["key"]
        return frozenset(key.scopes)

    def _of_person(self, ticket: Ticket) -> frozenset[str] | Ending:
        user = self._users.get(ticket.user_id or 0)
        if user is None or not user.is_active:
            return ENDED["session"]
        if ticket.session_key is not None and not _is_of(self._sessions.get(ticket.session_key), user):
            return ENDED["session"]
        own = self._members.get((user.pk, ticket.project_id))
        if own is None and not user.is_staff:
            return ENDED["member"]
        return (own or frozenset()) | (STAFF_SCOPES if user.is_staff else frozenset())


def _ids(values: Iterable[int | None]) -> list[int]:
    return list({value for value in values if value is not None})


def _memberships(users: Mapping[int, User], projects: Mapping[int, Project]) -> dict[tuple[int, int], frozenset[str]]:
    if not users:
        return {}
    found = Membership.objects.filter(user_id__in=list(users), project_id__in=list(projects))
    return {(one.user_id, one.project_id): frozenset(one.scopes) for one in found}


def _sessions(keys: Collection[str], now: datetime) -> dict[str, dict[str, Any]]:
    if not keys:
        return {}
    found = Session.objects.filter(session_key__in=keys, expire_date__gt=now)
    return {one.session_key: one.get_decoded() for one in found}


def _is_of(session: Mapping[str, Any] | None, user: User) -> bool:
    """Whether the session is still this person's: a new password or signing out everywhere ends it."""
    if session is None or str(session.get(SESSION_KEY)) != str(user.pk) or not session.get(BACKEND_SESSION_KEY):
        return False
    known = session.get(HASH_SESSION_KEY, "")
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(known, one) for one in hashes)
