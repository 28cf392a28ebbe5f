"""The staff API's URLs of this floor, under /api/sudo/."""

from django.urls import path

from queues.api.staff import PauseQueueView, ProjectQueueView, QueuesView, ResumeQueueView

staff_urlpatterns = [
    path("queues", QueuesView.as_view()),
    path("queues/<str:queue_id>/pause", PauseQueueView.as_view()),
    path("queues/<str:queue_id>/resume", ResumeQueueView.as_view()),
    path("projects/<str:project_id>/queue", ProjectQueueView.as_view()),
]
