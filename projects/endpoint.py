"""The base of every API view: JSON objects in and out, a Caller, the contract's refusals of ids and of idempotency."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from django.db.models import Model, QuerySet
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User
from projects.access import Caller, ForeignEntity, NoSuchEntity, entity
from projects.models import Project
from projects.scopes import Scope, by_method
from projects.throttle import use_request
from relay_project.web.body import check_length
from relay_project.web.errors import ApiError
from relay_project.web.fields import Fields
from relay_project.web.json import accept_chunked
from relay_project.web.pagination import read_number, read_path_id

Subject = TypeVar("Subject", bound=Model)

NOT_IDEMPOTENT = (
    'This endpoint does not support idempotency. Retry without the "X-Idempotency-Key" header.'  # the contract's text
)


class Endpoint(APIView):
    """A view that declares `required_scope` for each of its methods, or `project_level = False`."""

    http_method_names = ("get", "head", "post", "patch", "put", "delete")  # DRF's OPTIONS would describe our code
    section = "Others"  # of the page that describes the API
    required_scope: Mapping[str, Scope] = by_method()
    project_level = True
    is_idempotent = False
    is_streaming = False  # it reads the body itself, as it comes

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """The body's length, authentication and scope, the rate, the header that only some endpoints know, the body."""
        check_length(request._request)
        super().initial(request, *args, **kwargs)
        use_request(request._request, self.caller)
        if not self.is_idempotent and request.headers.get("X-Idempotency-Key", "").strip():
            raise ApiError(400, NOT_IDEMPOTENT)
        if not self.is_streaming:
            accept_chunked(request._request)

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return cast(Caller, self.request.auth)

    @property
    def project(self) -> Project:
        """The project that the key or the header names; only at project level."""
        return cast(Project, self.caller.project)

    def fields(self) -> Fields:
        """The body, to be read field by field."""
        return Fields(cast(dict[str, Any], self.request.data))  # the parsers give nothing else

    def entity(self, objects: QuerySet[Subject], raw_id: str) -> Subject:
        """The project's object with the id of the path; raises ApiError 400, 404 or 403."""
        try:
            return entity(objects, self.project, read_path_id(raw_id))
        except NoSuchEntity as missing:
            raise ApiError(404, str(missing)) from None
        except ForeignEntity as foreign:
            raise ApiError(403, str(foreign)) from None

    def filter_id(self, objects: QuerySet[Subject], name: str) -> int | None:
        """The id that a list is asked for, None for none; raises ApiError 400, and 403 for another project's object.

        What is nobody's may have been deleted, and its traces are still listed.
        """
        wanted = read_number(self.request.query_params, name)
        if wanted is None:
            return None
        try:
            entity(objects, self.project, wanted)
        except NoSuchEntity:
            pass
        except ForeignEntity as foreign:
            raise ApiError(403, str(foreign)) from None
        return wanted


def person_of(view: Endpoint) -> User:
    """The person behind a request at organisation level, where there always is one."""
    user = view.caller.user
    assert user is not None
    return user
