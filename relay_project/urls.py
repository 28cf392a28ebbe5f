"""Every URL of the product."""

from django.contrib import admin
from django.urls import include, path

from relay_project.web import errors
from relay_project.web.liveness import alive

urlpatterns = [
    path("", include("accounts.urls")),  # before the admin, whose own sign-in pages it replaces
    path("admin/", admin.site.urls),
    path("api/health", alive),
    # The last one under /api, so that an unknown route has the API's error shape.
    path("api/<path:rest>", errors.unknown_route),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error
