"""What a caller may do: each view declares the scope of each of its methods."""

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from projects.access import Caller
from projects.scopes import Scope
from relay_project.web.errors import ApiError

if TYPE_CHECKING:  # rest_framework.views imports this module, by the settings' name
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """Refuses without the scope of `view.required_scope[method]`; a view that forgot to declare one does not answer."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """True; raises ApiError 403."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method.lower() not in view.http_method_names or not hasattr(view, method.lower()):
            return True  # falls through to 405
        if not getattr(view, "project_level", True):
            return True
        scope = getattr(view, "required_scope", {}).get(method)
        if scope is None:
            raise ImproperlyConfigured(f"{type(view).__name__} declares no required_scope for {method}.")
        check_scope(request.auth if isinstance(request.auth, Caller) else None, scope)
        return True


def check_scope(caller: Caller | None, scope: Scope) -> None:
    """Raises ApiError 403 unless the caller was given the scope."""
    if caller is None or not caller.may(scope):
        raise ApiError(403, f"You do not have the required scope '{scope}' to access this resource.")
