"""Staff admin: queues, with pause and resume."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import audit
from projects.models import Project
from queues import pause
from queues.manage import MAX_NAME, NOT_A_NAME, create_queue, dedicate
from queues.models import Pause, ProjectQueue, Queue
from relay_project.web.staff import Confirmation, Facts, Link, WithReason, asked_above_list, column, confirmed

ORDERS = ("flush", "reroute", "purge")


@admin.register(Pause)
class PauseAdmin(Facts):
    """Times in which queues stood still."""

    list_display = ("id", Link("queue", Queue), "began_at", "ended_at", "reason")
    list_filter = ("queue",)


@admin.register(ProjectQueue)
class ProjectQueueAdmin(Facts):
    """Projects that staff gave a queue of their own."""

    list_display = ("project_id", Link("project", Project), Link("queue", Queue))
    list_filter = ("queue",)


class NewQueue(Confirmation):
    """A queue's name."""

    name = forms.CharField(max_length=MAX_NAME, widget=UnfoldAdminTextInputWidget(), help_text=NOT_A_NAME)


class WhichProject(Confirmation):
    """A project."""

    project = forms.ModelChoiceField(Project.objects.order_by("name"), widget=UnfoldAdminSelectWidget())


@admin.register(Queue)
class QueueAdmin(Facts):
    """Queues and whether they run."""

    list_display = ("id", "name", "is_default", "state", "pause_reason", "created_at")
    list_display_links = ("id", "name")
    computed = ("orders",)
    actions_list = ("new_queue",)
    actions_detail = ("pause", "resume", "give_to_project", "take_from_project")

    @asked_above_list(
        "New queue",
        question="A queue of its own gives projects their own source IPs. Move addresses to it, then give it to projects.",
        icon="add",
        form=NewQueue,
    )
    def new_queue(self, request: HttpRequest, data: dict[str, Any]) -> str:
        """Make one."""
        queue = create_queue(data["name"], actor=audit.actor_of(request), address=audit.address_of(request))
        return f"The queue {queue} is made."

    @confirmed(
        "Give to a project",
        question="Whose mail shall take the queue “{}” from now on? What waits already stays where it is.",
        icon="person_add",
        form=WhichProject,
        fits=lambda queue: not queue.is_default,
    )
    def give_to_project(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """A project's mail takes it."""
        given = dedicate(data["project"], queue, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"{data['project']} {'now takes' if given else 'took'} {queue}."

    @confirmed(
        "Take from a project",
        question="Whose mail shall take the default queue again, and no longer “{}”?",
        icon="person_remove",
        form=WhichProject,
        fits=lambda queue: not queue.is_default,
    )
    def take_from_project(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """A project's mail takes the default queue."""
        if not ProjectQueue.objects.filter(project=data["project"], queue=queue).exists():
            raise ValueError(f"{data['project']} does not take {queue}.")
        dedicate(data["project"], None, actor=audit.actor_of(request), address=audit.address_of(request))
        return f"{data['project']} takes its default queue."

    @column("state", label={"running": "success", "paused": "warning"})
    def state(self, queue: Queue) -> str:
        """Whether mail is claimed from it."""
        return "paused" if queue.paused_at else "running"

    @column("its mail")
    def orders(self, queue: Queue) -> SafeString:
        """What can be ordered over all that waits in it; by name, as the orders belong to a higher floor."""
        links = ((reverse(f"admin:sending_operation_{kind}"), queue.pk, kind.title()) for kind in ORDERS)
        return format_html_join(" · ", '<a href="{}?queue={}">{}</a>', links)

    @confirmed(
        "Pause",
        question="No mail of the queue “{}” will be started until it is resumed. What is in flight ends. Continue?",
        icon="pause",
        form=WithReason,
        fits=lambda queue: queue.paused_at is None,
        danger=True,
    )
    def pause(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """Stop claiming."""
        now = timezone.now()
        pause.pause(
            queue, reason=data["reason"], actor=audit.actor_of(request), now=now, address=audit.address_of(request)
        )
        return f"{queue} is paused."

    @confirmed(
        "Resume",
        question="All mail that waits in the queue “{}” will be due at once. Continue?",
        icon="play_arrow",
        fits=lambda queue: queue.paused_at is not None,
    )
    def resume(self, request: HttpRequest, queue: Queue, data: dict[str, Any]) -> str:
        """Claim again."""
        pause.resume(queue, actor=audit.actor_of(request), now=timezone.now(), address=audit.address_of(request))
        return f"{queue} runs again."
