"""Who makes a request of the API: an API key or an access token in `Authorization`, otherwise a browser session.

The checks, their order, statuses and texts are the wire contract's. Views at organisation level (no project) say
`project_level = False`.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.request import Request

from accounts.access_token import is_token
from accounts.models import User
from projects.access import Caller, NoAccess, caller_for
from projects.api_keys import Known, authenticate_key
from projects.permissions import check_scope
from projects.scopes import SCOPES, Scope
from projects.tokens import authenticate_token
from relay_project.web.errors import ApiError
from relay_project.web.fields import parse_integer

ORGANISATION_ID = 0  # an installation is one organisation
SCHEME = "Bearer "

log = structlog.get_logger(__name__)


class ConsoleAuthentication(BaseAuthentication):
    """Gives `request.user` (None for a key) and `request.auth`, the Caller."""

    def authenticate(self, request: Request) -> tuple[User | None, Caller]:
        """The caller; raises ApiError 401 or 403."""
        caller = caller_of(request._request, getattr(request.parser_context.get("view"), "project_level", True))
        return caller.user, caller


def caller_of(request: HttpRequest, project_level: bool = True) -> Caller:
    """Who makes a request, for plain views too; raises ApiError 401 or 403."""
    header = request.META.get("HTTP_AUTHORIZATION")
    caller = _by_session(request, project_level) if header is None else _by_key(request, header, project_level)
    _tell_log(request, caller)
    return caller


def _by_key(request: HttpRequest, header: str, project_level: bool) -> Caller:
    if header[: len(SCHEME)].lower() != SCHEME.lower():
        raise ApiError(403, 'Authorization header must start with "Bearer ".')
    token = header[len(SCHEME) :].strip()
    if not token:
        raise ApiError(403, "API key is missing or empty.")
    address = request.META.get("REMOTE_ADDR", "")
    if settings.OIDC_API_AUDIENCE and is_token(token):
        return _by_token(request, token, address, project_level)
    caller = caller_by_key(token, address)
    if not project_level:
        raise ApiError(403, "This endpoint cannot be used with an API key.")
    return caller


def caller_by_key(token: str, address: str, known: Known | None = None) -> Caller:
    """Who comes with a key from that address, over HTTP or SMTP; raises ApiError 403 or 429. `known`: as keys_of() gives."""
    key = authenticate_key(token, address, datetime.now(UTC), known)
    return Caller(frozenset(key.scopes), key.project, api_key=key, address=address)


def _by_token(request: HttpRequest, token: str, address: str, project_level: bool) -> Caller:
    """Somebody with an access token: what it gives and what they may do, both."""
    user, scopes = authenticate_token(token, address, datetime.now(UTC))
    _check_organisation(request)
    if project_level:
        entered = _enter(request, user, address)
        return replace(entered, scopes=entered.scopes & scopes, by_token=True)
    # no view asks for a scope out there; a token that was made for little must not found projects all the same
    caller = Caller(scopes, user=user, address=address, by_token=True)
    check_scope(caller, Scope.PROJECT_READ if request.method in ("GET", "HEAD") else Scope.PROJECT_WRITE)
    return caller


def _by_session(request: HttpRequest, project_level: bool) -> Caller:
    user = getattr(request, "user", None)
    if not isinstance(user, User) or not user.is_active:
        sign_in = settings.WEB_URL + settings.LOGIN_URL
        raise ApiError(401, "Unauthorized", {"login_url": sign_in, "signup_url": sign_in})
    enforce_csrf(request)
    _check_organisation(request)
    address = request.META.get("REMOTE_ADDR", "")
    if not project_level:
        return Caller(frozenset(SCOPES), user=user, address=address)
    return _enter(request, user, address)


def _check_organisation(request: HttpRequest) -> None:
    if (request.headers.get("X-Organization-ID") or "0").strip() != str(ORGANISATION_ID):
        raise ApiError(403, "org_mismatch")


def _enter(request: HttpRequest, user: User, address: str) -> Caller:
    """The person inside the project that the header names."""
    project_id = (request.headers.get("X-Project-ID") or "").strip()
    if not project_id:
        raise ApiError(403, "X-Project-ID is required for this endpoint.")
    try:
        return caller_for(user, parse_integer(project_id) or 0, address)
    except NoAccess as refused:
        raise ApiError(403, str(refused)) from None


def enforce_csrf(request: HttpRequest) -> None:
    """A session's cookie comes along with any request of the browser, so the page must prove that it is ours."""
    check = CSRFCheck(lambda _: None)  # type: ignore[arg-type]
    check.process_request(request)
    reason: Any = check.process_view(request, None, (), {})  # type: ignore[arg-type]
    if reason:
        raise ApiError(403, f"CSRF Failed: {reason}")


def _tell_log(request: HttpRequest, caller: Caller) -> None:
    """Ids for the request's log line; never the key."""
    context = {
        "project_id": caller.project.pk if caller.project else None,
        "api_key_id": caller.api_key.pk if caller.api_key else None,
        "user_id": caller.user.pk if caller.user else None,
    }
    request.log_context = {name: value for name, value in context.items() if value is not None}  # type: ignore[attr-defined]
