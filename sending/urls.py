"""The API's URLs of this floor, under /api/console/ and, for staff, under /api/sudo/."""

from django.urls import path

from sending.api import analytics, inbound, staff, suppressions
from sending.api.archive import ArchiveView
from sending.api.batch import batch
from sending.api.check import CheckView
from sending.api.sends import (
    CancelView,
    ContentView,
    RescheduleView,
    RetryView,
    SendByUuidView,
    SendView,
    sends,
)
from sending.api.staff_inbound import IncomingMailsView, IncomingMailView, ReadAgainView
from sending.api.staff_statistics import StaffSeriesView
from sending.api.staff_suppressions import StaffSuppressionsView, StaffSuppressionView

urlpatterns = [
    path("project/archive", ArchiveView.as_view()),
    path("analytics/stats", analytics.StatsView.as_view()),
    path("analytics/sends/chart", analytics.ChartView.as_view()),
    path("analytics/series", analytics.SeriesView.as_view()),
    path("sends", sends),
    path("sends/batch", batch),
    path("suppressions", suppressions.SuppressionsView.as_view()),
    path("suppressions/import", suppressions.ImportView.as_view()),
    path("suppressions/export", suppressions.ExportView.as_view()),
    path("suppressions/email/<path:email>", suppressions.AddressView.as_view()),
    path("suppressions/<str:suppression_id>", suppressions.SuppressionView.as_view()),
    path("inbound-domains", inbound.ReceivingDomainsView.as_view()),
    path("inbound-domains/<str:domain_id>", inbound.ReceivingDomainView.as_view()),
    path("inbound-domains/<str:domain_id>/check", inbound.MxCheckView.as_view()),
    path("inbound-routes", inbound.RoutesView.as_view()),
    path("inbound-routes/<str:route_id>", inbound.RouteView.as_view()),
    path("inbound", inbound.ReceivedView.as_view()),
    path("inbound/<str:received_id>", inbound.OneReceivedView.as_view()),
    path("inbound/<str:received_id>/raw", inbound.SourceView.as_view()),
    path("inbound/<str:received_id>/attachments/<str:attachment_id>", inbound.AttachmentView.as_view()),
    path("sends/uuid/<str:send_uuid>", SendByUuidView.as_view()),
    path("sends/uuid/<str:send_uuid>/content", ContentView.as_view()),
    path("sends/check", CheckView.as_view()),
    path("sends/<str:send_id>", SendView.as_view()),
    path("sends/<str:send_id>/cancel", CancelView.as_view()),
    path("sends/<str:send_id>/reschedule", RescheduleView.as_view()),
    path("sends/<str:send_id>/retry", RetryView.as_view()),
]

staff_urlpatterns = [
    path("sends", staff.StaffSendsView.as_view()),
    path("sends/uuid/<str:send_uuid>", staff.StaffSendView.as_view()),
    path("sends/uuid/<str:send_uuid>/content", staff.StaffContentView.as_view()),
    path("projects/<str:project_id>/archive", staff.StaffArchiveView.as_view()),
    path("analytics/series", StaffSeriesView.as_view()),
    path("backlog", staff.DepthsView.as_view()),
    path("queues/<str:queue_id>", staff.QueueView.as_view()),
    path("orders", staff.OrdersView.as_view()),
    path("orders/<str:order_id>/stop", staff.StopOrderView.as_view()),
    path("debug/incoming-mails", IncomingMailsView.as_view()),
    path("debug/incoming-mails/<str:mail_id>", IncomingMailView.as_view()),
    path("debug/incoming-mails/<str:mail_id>/read-again", ReadAgainView.as_view()),
    path("suppressions", StaffSuppressionsView.as_view()),
    path("suppressions/<str:suppression_id>", StaffSuppressionView.as_view()),
]
