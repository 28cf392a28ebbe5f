"""The base of every view of the staff API, /api/sudo: a person who is staff, by session or by a key of theirs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar, cast

from django.conf import settings
from django.db.models import Model, QuerySet
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import audit
from accounts.models import StaffKey, User
from projects.access import Caller
from projects.authentication import SCHEME, enforce_csrf
from projects.staff_keys import authenticate_staff_key
from relay_project.web.errors import ApiError
from relay_project.web.fields import Fields
from relay_project.web.json import accept_chunked
from relay_project.web.pagination import Page, read_path_id

Subject = TypeVar("Subject", bound=Model)

NOT_STAFF = "You do not have sudo access."  # the contract's texts
NO_SESSION = "auth_required"
READ_ONLY = "This API key can only read."


class By(TypedDict):
    """Who acts, as the rules of every app take it."""

    actor: User
    address: str | None


class StaffAuthentication(BaseAuthentication):
    """Gives `request.user` and, for a key, `request.auth`."""

    def authenticate(self, request: Request) -> tuple[User, StaffKey | None]:
        """Who asks; raises ApiError 403."""
        header = request.META.get("HTTP_AUTHORIZATION")
        user, key = _by_session(request) if header is None else _by_key(request, header)
        if not (user.is_active and user.is_staff):
            raise ApiError(403, NOT_STAFF)
        if key is not None and key.is_read_only and request.method not in ("GET", "HEAD"):
            raise ApiError(403, READ_ONLY)
        request._request.log_context = {  # type: ignore[attr-defined]
            "user_id": user.pk,
            **({"staff_key_id": key.pk} if key else {}),
        }
        return user, key


def _by_key(request: Request, header: str) -> tuple[User, StaffKey]:
    if header[: len(SCHEME)].lower() != SCHEME.lower():
        raise ApiError(403, 'Authorization header must start with "Bearer ".')
    token = header[len(SCHEME) :].strip()
    if not token:
        raise ApiError(403, "API key is missing or empty.")
    key = authenticate_staff_key(token, request.META.get("REMOTE_ADDR", ""), datetime.now(UTC))
    return key.user, key


def _by_session(request: Request) -> tuple[User, None]:
    user = getattr(request._request, "user", None)
    if not isinstance(user, User) or not user.is_active:
        raise ApiError(403, NO_SESSION, {"login_url": settings.WEB_URL + settings.LOGIN_URL})
    enforce_csrf(request._request)
    return user, None


class IsStaff(BasePermission):
    """The authentication lets nobody else in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """True."""
        return isinstance(request.user, User) and request.user.is_staff


class StaffEndpoint(APIView):
    """A view of the staff API. No scopes and no rate limits, as the contract has it."""

    section = "Staff"
    is_staff_only = True
    http_method_names = ("get", "head", "post", "patch", "put", "delete")
    authentication_classes = (StaffAuthentication,)
    permission_classes = (IsStaff,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authentication first, then the body."""
        super().initial(request, *args, **kwargs)
        accept_chunked(request._request)

    @property
    def by(self) -> By:
        """Who acts."""
        return By(actor=cast(User, self.request.user), address=audit.address_of(self.request._request))

    @property
    def caller(self) -> Caller:
        """Who acts, as the rules of projects take it."""
        return Caller(frozenset(), user=self.by["actor"], address=self.by["address"] or "")

    def fields(self) -> Fields:
        """The body, to be read field by field."""
        return Fields(cast("dict[str, Any]", self.request.data))

    def row(
        self, rows: QuerySet[Subject], raw_id: str, missing: str = "Entity not found", status: int = 404
    ) -> Subject:
        """The row with the id of the path; raises ApiError 400, or `status` with what `missing` says of `{id}`."""
        identifier = read_path_id(raw_id)
        found = rows.filter(pk=identifier).first()
        if found is None:
            raise ApiError(status, missing.format(id=identifier))
        return found


def page_of(rows: QuerySet[Subject], page: Page) -> Iterator[Subject]:
    """One page of rows, the newest first."""
    rows = rows.order_by("-pk")
    if page.before_id is not None:
        rows = rows.filter(pk__lt=page.before_id)
    return iter(rows[page.offset : page.offset + page.limit])
