"""Every URL of the product."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from ips.urls import staff_urlpatterns as ips_staff
from projects.api.members import PeopleView
from projects.console.urls import inside as console_inside
from projects.console.urls import outside as console_outside
from projects.urls import staff_urlpatterns as projects_staff
from queues.urls import staff_urlpatterns as queues_staff
from relay_project.web import errors
from relay_project.web.liveness import alive
from relay_project.web.openapi import openapi_json
from relay_project.web.reference import reference
from sending.console.urls import urlpatterns as console_mail
from sending.unsubscribe_page import unsubscribe_page
from sending.urls import staff_urlpatterns as sending_staff
from webhooks.console.urls import urlpatterns as console_webhooks
from webhooks.urls import mailbox_addresses

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="console-start")),
    path("", include("accounts.urls")),  # before the admin, whose own sign-in pages it replaces
    path("console/", include(console_outside)),
    path("console/<int:project_id>", include([*console_inside, *console_mail, *console_webhooks])),
    path("admin/", admin.site.urls),
    path("unsubscribe/<str:token>", unsubscribe_page, name="unsubscribe"),
    path("api/health", alive),
    path("api/oidc/search", PeopleView.as_view()),
    path("api/openapi.json", openapi_json, name="openapi"),
    path("api/doc.json", openapi_json),
    path("api/docs", reference, name="reference"),
    path("api/console/", include("projects.urls")),
    path("api/console/", include("sending.urls")),
    path("api/console/", include("webhooks.urls")),
    path("v1/mailbox/", include(mailbox_addresses)),
    path("api/sudo/", include([*projects_staff, *queues_staff, *ips_staff, *sending_staff])),
    # The last one under /api, so that an unknown route has the API's error shape.
    path("api/<path:rest>", errors.unknown_route),
    path("v1/<path:rest>", errors.unknown_route),
]

handler400 = errors.bad_request
handler403 = errors.forbidden
handler404 = errors.not_found
handler500 = errors.server_error
