"""The API's URLs of this floor, under /api/console/."""

from django.urls import path

from sending.api.sends import ContentView, RetryView, SendByUuidView, SendView, sends

urlpatterns = [
    path("sends", sends),
    path("sends/uuid/<str:send_uuid>", SendByUuidView.as_view()),
    path("sends/uuid/<str:send_uuid>/content", ContentView.as_view()),
    path("sends/<str:send_id>", SendView.as_view()),
    path("sends/<str:send_id>/retry", RetryView.as_view()),
]
