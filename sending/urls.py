"""The API's URLs of this floor, under /api/console/."""

from django.urls import path

from sending.api import suppressions
from sending.api.archive import ArchiveView
from sending.api.batch import batch
from sending.api.sends import (
    CancelView,
    ContentView,
    RescheduleView,
    RetryView,
    SendByUuidView,
    SendView,
    sends,
)

urlpatterns = [
    path("project/archive", ArchiveView.as_view()),
    path("sends", sends),
    path("sends/batch", batch),
    path("suppressions", suppressions.SuppressionsView.as_view()),
    path("suppressions/import", suppressions.ImportView.as_view()),
    path("suppressions/export", suppressions.ExportView.as_view()),
    path("suppressions/email/<path:email>", suppressions.AddressView.as_view()),
    path("suppressions/<str:suppression_id>", suppressions.SuppressionView.as_view()),
    path("sends/uuid/<str:send_uuid>", SendByUuidView.as_view()),
    path("sends/uuid/<str:send_uuid>/content", ContentView.as_view()),
    path("sends/<str:send_id>", SendView.as_view()),
    path("sends/<str:send_id>/cancel", CancelView.as_view()),
    path("sends/<str:send_id>/reschedule", RescheduleView.as_view()),
    path("sends/<str:send_id>/retry", RetryView.as_view()),
]
